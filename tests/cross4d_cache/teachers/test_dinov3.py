"""DINOv3: features of the authors' checkpoint equal those of a plain implementation that runs from their names of tensors."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DINOv3ViTModel

from cross4d_cache.catalogue import family
from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers import dinov3, load_teacher

HEADS = 2
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for variant, width in {"dinov3-s": 32, "dinov3-s+": 40, "dinov3-b": 48, "dinov3-l": 64, "dinov3-7b": 56}.items():
        gated = variant in ("dinov3-s+", "dinov3-7b")
        monkeypatch.setitem(dinov3._SHAPES, variant, (width, 2, HEADS, 4 * width, gated))


def original_state(variant: str) -> State:
    """As the authors save it: a bias of keys that a mask takes away, periods in bfloat16, and a norm for local crops.

    The largest model has no bias of queries, keys and values.
    """
    width, depth, _, hidden, gated = dinov3._SHAPES[variant]
    mlp = (
        {"w1": (hidden, width), "w2": (hidden, width), "w3": (width, hidden)} if gated else {"fc1": (hidden, width), "fc2": (width, hidden)}
    )
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), **{f"mlp.{name}": shape for name, shape in mlp.items()}}
    block: dict[str, tuple[int, ...]] = {f"ls{number}.gamma": (width,) for number in (1, 2)}
    block |= {f"{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}
    for name, shape in linear.items():
        block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, width), "storage_tokens": (1, 4, width), "mask_token": (1, width)}
    shapes |= {"patch_embed.proj.weight": (width, 3, 16, 16), "patch_embed.proj.bias": (width,)}
    shapes |= {f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block.items()}
    shapes |= {f"{norm}.{part}": (width,) for norm in ("norm", "local_cls_norm") for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    mask = torch.ones(3 * width)
    mask[width : 2 * width] = math.nan
    for index in range(depth):
        if variant == "dinov3-7b":
            del state[f"blocks.{index}.attn.qkv.bias"]
        else:
            state[f"blocks.{index}.attn.qkv.bias_mask"] = mask
    quarter = width // HEADS // 4
    return state | {"rope_embed.periods": (100 ** (torch.arange(quarter) / quarter)).bfloat16()}


def linear(state: State, name: str, x: Tensor) -> Tensor:
    bias = state.get(f"{name}.bias", torch.zeros(()))
    if f"{name}.bias_mask" in state:
        bias = torch.where(state[f"{name}.bias_mask"].isnan(), 0, bias)
    return x @ state[f"{name}.weight"].T + bias


def norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)


def rotate(x: Tensor, side: int, periods: Tensor) -> Tensor:
    """Tokens of patches turn: channel i with channel i + half, by angles of the row for the first quarter, of the column for the second.

    Rows and columns run from -1 to 1; class and register tokens stay.
    """
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    grid = torch.stack(torch.meshgrid(places, places, indexing="ij"), dim=-1).reshape(-1, 2)
    angles = torch.cat([2 * math.pi * grid[:, :1] / periods, 2 * math.pi * grid[:, 1:] / periods], dim=1)
    first, patches = x[:, :, :5], x[:, :, 5:]
    half = x.shape[-1] // 2
    a, b = patches[..., :half], patches[..., half:]
    turned = torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)
    return torch.cat([first, turned], dim=2)


def plain(state: State, pixels: Tensor) -> Tensor:
    patches = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    side = patches.shape[-1]
    first = [state[name].expand(len(pixels), -1, -1) for name in ("cls_token", "storage_tokens")]
    x = torch.cat([*first, patches.flatten(2).mT], dim=1)
    for name in sorted({key.split(".norm1")[0] for key in state if ".norm1" in key}):
        q, k, v = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        q, k = (rotate(part, side, state["rope_embed.periods"].float()) for part in (q, k))
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(state, f"{name}.attn.proj", mixed.transpose(1, 2).flatten(2)) * state[f"{name}.ls1.gamma"]
        hidden = norm(state, f"{name}.norm2", x)
        if f"{name}.mlp.w1.weight" in state:
            hidden = F.silu(linear(state, f"{name}.mlp.w1", hidden)) * linear(state, f"{name}.mlp.w2", hidden)
            hidden = linear(state, f"{name}.mlp.w3", hidden)
        else:
            hidden = linear(state, f"{name}.mlp.fc2", F.gelu(linear(state, f"{name}.mlp.fc1", hidden)))
        x = x + hidden * state[f"{name}.ls2.gamma"]
    return norm(state, "norm", x)[:, 5:]


@pytest.mark.parametrize("variant", ["dinov3-s", "dinov3-s+", "dinov3-7b"])
@pytest.mark.parametrize("size", [64, 112])
def test_features_are_those_of_the_authors_model(variant: str, size: int, tmp_path: Path) -> None:
    state = original_state(variant)
    torch.save(state, tmp_path / "dinov3_vits16_pretrain.pth")
    teacher = load_teacher(variant, str(tmp_path / "dinov3_vits16_pretrain.pth"), image_size=size)
    grey = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    pixels = (grey.expand(-1, 3, -1, -1) - torch.tensor(teacher.spec.mean)[:, None, None]) / torch.tensor(teacher.spec.std)[:, None, None]
    torch.testing.assert_close(teacher(grey).tokens[:, 0], plain(state, pixels), atol=3e-6, rtol=1e-5)


def test_a_missing_tensor_is_named_and_another_variant_told(tmp_path: Path) -> None:
    state = original_state("dinov3-s")
    torch.save({name: tensor for name, tensor in state.items() if name != "storage_tokens"}, tmp_path / "a.pth")
    with pytest.raises(TeacherError, match=r"1 tensors missing \(embeddings.register_tokens\)"):
        load_teacher("dinov3-s", str(tmp_path / "a.pth"))
    torch.save(original_state("dinov3-b"), tmp_path / "b.pth")
    with pytest.raises(TeacherError, match="holds the weights of dinov3-b"):
        load_teacher("dinov3-s", str(tmp_path / "b.pth"))


@pytest.mark.parametrize("satellite", [True, False])
def test_a_satellite_file_gets_satellite_statistics(satellite: bool, tmp_path: Path) -> None:
    state = original_state("dinov3-l")
    torch.save({name: tensor for name, tensor in state.items() if satellite or not name.startswith("local_cls_norm")}, tmp_path / "a.pth")
    spec = load_teacher("dinov3-l", str(tmp_path / "a.pth"), image_size=64).spec
    assert spec.mean == ((0.430, 0.411, 0.296) if satellite else (0.485, 0.456, 0.406))
    assert spec.std == ((0.213, 0.156, 0.143) if satellite else (0.229, 0.224, 0.225))


def test_the_family_is_complete() -> None:
    assert set(family("dinov3")) == set(dinov3._SHAPES)
    assert all(DINOv3ViTModel.config_class is type(dinov3.config(variant)) for variant in family("dinov3"))
