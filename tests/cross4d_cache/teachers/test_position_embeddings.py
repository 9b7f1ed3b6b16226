"""DINOv2's position embeddings at other image sizes: the authors' rule, against a slow one, and in the teacher."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Dinov2Config, Dinov2Model

from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.position_embeddings import resample


def cubic(distance: float) -> float:
    """Weight of a neighbour at a distance, Keys' kernel with a = -0.75."""
    x = abs(distance)
    if x <= 1:
        return (1.25 * x - 2.25) * x * x + 1
    return ((-0.75 * x + 3.75) * x - 6) * x + 3 if x < 2 else 0.0


def slow_resample(grid: np.ndarray, side: int) -> np.ndarray:
    """Each new patch looks at 4 x 4 old ones around `(i + 0.5) * old side / (side + 0.1) - 0.5`, edges repeated."""
    old = len(grid)
    new = np.zeros((side, side, grid.shape[2]))
    for row in range(side):
        for column in range(side):
            y, x = ((place + 0.5) * old / (side + 0.1) - 0.5 for place in (row, column))
            for j in range(math.floor(y) - 1, math.floor(y) + 3):
                for i in range(math.floor(x) - 1, math.floor(x) + 3):
                    neighbour = grid[min(max(j, 0), old - 1), min(max(i, 0), old - 1)]
                    new[row, column] += cubic(y - j) * cubic(x - i) * neighbour
    return new


@settings(max_examples=20, deadline=None, derandomize=True)
@given(old=st.integers(2, 9), side=st.integers(1, 12), seed=st.integers(0, 99))
def test_resampling_is_the_authors(old: int, side: int, seed: int) -> None:
    table = torch.randn(1, 1 + old**2, 3, generator=torch.Generator().manual_seed(seed))
    found = resample(table, side)
    assert found.shape == (1, 1 + side**2, 3)
    torch.testing.assert_close(found[:, :1], table[:, :1])
    if side == old:
        torch.testing.assert_close(found, table)
        return
    expected = slow_resample(table[0, 1:].unflatten(0, (old, old)).double().numpy(), side)
    np.testing.assert_allclose(found[0, 1:].unflatten(0, (side, side)).numpy(), expected, atol=1e-5)


@pytest.fixture
def model(tmp_path: Path) -> Dinov2Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=98, patch_size=14)
        model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    return model


@pytest.mark.parametrize("name", ["dinov2-s", "hf"])
def test_a_teacher_sees_other_sizes_as_the_authors_do(model: Dinov2Model, tmp_path: Path, name: str) -> None:
    """Equal to transformers' model whose table was replaced by the resampled one beforehand; unlike transformers' own resampling."""
    stated = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.2, 0.2, 0.2)}
    teacher = load_teacher(name, str(tmp_path), image_size=56, **stated)
    images = torch.rand(2, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    found = teacher(images).tokens[:, 0]
    pixels = (images.expand(-1, 3, -1, -1) - torch.tensor(teacher.spec.mean)[:, None, None]) / torch.tensor(teacher.spec.std)[:, None, None]
    with torch.inference_mode():
        theirs = model(pixels).last_hidden_state[:, 1:]
        model.embeddings.position_embeddings = torch.nn.Parameter(resample(model.embeddings.position_embeddings, 4))
        expected = model(pixels).last_hidden_state[:, 1:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - theirs).abs().max() > 1e-3
    assert teacher.spec.num_parameters == sum(
        parameter.numel() for parameter in load_teacher(name, str(tmp_path), **stated).model.parameters()
    )


def test_at_the_trained_size_nothing_changes(model: Dinov2Model, tmp_path: Path) -> None:
    teacher = load_teacher("dinov2-s", str(tmp_path), image_size=98)
    assert torch.equal(
        teacher.model.embeddings.interpolate_pos_encoding(torch.zeros(1, 50, 32), 98, 98), model.embeddings.position_embeddings
    )
