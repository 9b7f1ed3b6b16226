"""VideoMAE V2: features of the authors' checkpoint equal those of a plain implementation that runs from their names of tensors."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEModel

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers import load_teacher, videomae

HEADS = 2
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches of 56 px, so that 224 px are few of them."""
    for variant, width in zip(family("videomae"), (24, 32, 40, 48, 56), strict=True):
        monkeypatch.setitem(videomae._SHAPES, variant, (width, 2, HEADS, 4 * width))
        monkeypatch.setitem(CATALOGUE, variant, replace(CATALOGUE[variant], patch=56))


def original_state(variant: str, last_norm: str = "fc_norm") -> State:
    width, depth, _, hidden = videomae._SHAPES[variant]
    block: dict[str, tuple[int, ...]] = {"attn.qkv.weight": (3 * width, width), "attn.q_bias": (width,), "attn.v_bias": (width,)}
    for name, shape in {"attn.proj": (width, width), "mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}.items():
        block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    block |= {f"{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj.weight": (width, 3, 2, 56, 56), "patch_embed.proj.bias": (width,)}
    shapes |= {f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block.items()}
    shapes |= {f"{last_norm}.weight": (width,), f"{last_norm}.bias": (width,), "head.weight": (710, width), "head.bias": (710,)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * (0.02 if "patch" in name else 0.3) for name, shape in shapes.items()}


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def plain(state: State, pixels: Tensor, last_norm: str = "fc_norm") -> Tensor:
    """Positions: sines of even channels, cosines of odd ones, by the number of the token."""
    patches = F.conv3d(pixels.transpose(1, 2), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=(2, 56, 56))
    x = patches.flatten(2).mT
    place, channel = np.arange(x.shape[1])[:, None], np.arange(x.shape[2])[None]
    angle = place / 10000 ** (2 * (channel // 2) / x.shape[2])
    x = x + torch.from_numpy(np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))).float()
    for index in range(2):
        name = f"blocks.{index}"
        bias = torch.cat([state[f"{name}.attn.q_bias"], torch.zeros_like(state[f"{name}.attn.q_bias"]), state[f"{name}.attn.v_bias"]])
        qkv = norm(state, f"{name}.norm1", x) @ state[f"{name}.attn.qkv.weight"].T + bias
        q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + mixed @ state[f"{name}.attn.proj.weight"].T + state[f"{name}.attn.proj.bias"]
        hidden = F.gelu(norm(state, f"{name}.norm2", x) @ state[f"{name}.mlp.fc1.weight"].T + state[f"{name}.mlp.fc1.bias"])
        x = x + hidden @ state[f"{name}.mlp.fc2.weight"].T + state[f"{name}.mlp.fc2.bias"]
    return norm(state, last_norm, x).unflatten(1, (8, 16))


def clips(teacher: object) -> tuple[Tensor, Tensor]:
    grey = torch.rand(2, 16, 224, 224, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return grey, (grey[:, :, None].expand(-1, -1, 3, -1, -1) - mean) / std


@pytest.mark.parametrize("kind", ["distilled", "pretrained", "hub folder"])
def test_features_are_those_of_the_authors_model(kind: str, tmp_path: Path) -> None:
    """Files of distilled and of pretrained models, and a repository of the hub, with a configuration that is not transformers'."""
    last_norm = "norm" if kind == "pretrained" else "fc_norm"
    state = original_state("videomae-b", last_norm)
    if kind == "hub folder":
        save_file({f"model.{name}": tensor for name, tensor in state.items()}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "VideoMAEv2_Base", "auto_map": {"AutoModel": "a.b"}}))
        weights = tmp_path
    else:
        weights = tmp_path / "vit_b.pth"
        decoder = {
            "decoder.blocks.0.norm1.weight": torch.zeros(3),
            "mask_token": torch.zeros(1, 1, 3),
            "encoder_to_decoder.weight": torch.zeros(3),
        }
        pretrained = {f"encoder.{name}": tensor for name, tensor in state.items() if "head" not in name} | decoder
        torch.save({"model": pretrained} if kind == "pretrained" else {"module": state}, weights)
    teacher = load_teacher("videomae-b", str(weights))
    grey, pixels = clips(teacher)
    features = teacher(grey)
    torch.testing.assert_close(features.tokens, plain(state, pixels, last_norm), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.summary, features.tokens.mean(dim=2))
    assert (teacher.spec.tubelet, teacher.spec.window, teacher.spec.num_patches, teacher.spec.weights) == (2, 16, 16, weights.name)


def test_features_equal_those_of_transformers(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = VideoMAEConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=56, use_mean_pooling=False
        )
        model = VideoMAEModel(config).eval()
    model.save_pretrained(tmp_path)
    teacher = load_teacher("videomae-b", str(tmp_path))
    grey, pixels = clips(teacher)
    with torch.inference_mode():
        expected = model(pixels).last_hidden_state.unflatten(1, (8, 16))
    torch.testing.assert_close(teacher(grey).tokens, expected)


@pytest.mark.parametrize(
    ("options", "message"), [({"window": 8}, r"`teacher\.window` 16"), ({"image_size": 112}, "position table is fixed")]
)
def test_other_windows_and_image_sizes_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        load_teacher("videomae-b", "random", **options)


def test_a_model_that_is_not_on_the_hub_asks_for_its_file() -> None:
    with pytest.raises(TeacherError, match="videomae-s are not on the hub"):
        load_teacher("videomae-s")


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = original_state("videomae-b")
    torch.save({"module": {name: tensor for name, tensor in state.items() if name != "blocks.1.attn.v_bias"}}, tmp_path / "a.pth")
    with pytest.raises(TeacherError, match=r"1 tensors missing \(encoder.layer.1.attention.attention.value.bias\)"):
        load_teacher("videomae-b", str(tmp_path / "a.pth"))


def test_the_family_is_complete() -> None:
    assert set(family("videomae")) == set(videomae._SHAPES)
