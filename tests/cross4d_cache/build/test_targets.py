"""The steps of `TargetMaker` by hand, with a teacher that reads brightness."""

import numpy as np
import pytest
import torch

from cross4d_cache.build.projection import Projection
from cross4d_cache.build.targets import TargetMaker
from cross4d_cache.store import ProjectionRecord
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import RenderSettings, TeacherSpec

SIDE, PATCH, VIEWS = 4, 2, 2


class Brightness(Teacher):
    """Windows of two frames, a tubelet each. A token is its patch's brightness and a constant 1, the embedding the image's."""

    def __init__(self):
        spec = TeacherSpec(
            name="brightness", weights="none", sha256="none", num_parameters=0, image_size=SIDE, patch_size=PATCH, tubelet=1, window=2,
            channels=2, layer=0, dtype="float32", mean=(0, 0, 0), std=(1, 1, 1),
        )  # fmt: skip
        super().__init__(spec, torch.device("cpu"))
        self.sizes = []

    def forward(self, clips):
        self.sizes.append(len(clips))
        patches = clips[:, :, 0].unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH)).mean(dim=(3, 5)).flatten(2)
        tokens = torch.stack([patches, torch.ones_like(patches)], dim=-1)
        return tokens, tokens.mean(dim=2)


def make(windows_per_batch, matrix=None):
    record = ProjectionRecord(kind="none", seed=0, channels=2, sha256=None)
    projection = Projection(matrix=matrix, record=record)
    return TargetMaker(Brightness(), projection, RenderSettings(views=VIEWS, image_size=SIDE), windows_per_batch)


def images_of(num_windows):
    """Pixels of patch p of frame t, seen by view v of window w: 1000 w + 100 v + 10 t + p."""
    window, view, frame = torch.meshgrid(torch.arange(num_windows), torch.arange(VIEWS), torch.arange(2), indexing="ij")
    patch = torch.arange(4).view(2, 2).repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
    values = (1000 * window + 100 * view + 10 * frame)[..., None, None] + patch
    return values.flatten(0, 1).float()


def test_global_embeddings_are_the_mean_over_views():
    """Patches 0 to 3 add 1.5, views 0 and 1 add 50."""
    _, summary = make(3)._teach(images_of(3), 3)
    assert summary[:, 0].tolist() == [1000 * window + 50 + 10 * frame + 1.5 for window in range(3) for frame in range(2)]
    assert summary[:, 1].tolist() == [1] * 6


def test_tokens_are_counted_through_all_views_of_a_tubelet():
    tokens, _ = make(3)._teach(images_of(3), 3)
    expected = [[1000 * w + 100 * v + 10 * t + p for v in range(VIEWS) for p in range(4)] for w in range(3) for t in range(2)]
    assert tokens[..., 0].tolist() == expected


def test_a_projection_is_applied_to_both():
    """Columns: brightness plus 7, and brightness doubled."""
    tokens, summary = make(3, np.array([[1, 2], [7, 0]], dtype=np.float32))._teach(images_of(1), 1)
    assert tokens[0, 3].tolist() == [10, 6]  # patch 3 of view 0 in frame 0
    assert summary.tolist() == [[58.5, 103], [68.5, 123]]


@pytest.mark.parametrize(("num_windows", "filled"), [(1, 2), (4, 4), (5, 6), (16, 16)])
def test_batches_are_filled_up_to_eighths(num_windows, filled):
    """Of at most 16 windows: steps of two windows, so of four clips with two views; what was filled up is not given back."""
    maker = make(16)
    tokens, summary = maker._teach(images_of(num_windows), num_windows)
    assert maker.teacher.sizes == [filled * VIEWS]
    assert (len(tokens), len(summary)) == (2 * num_windows, 2 * num_windows)
