"""The authors' own checkpoint files: features equal those of plain implementations that run from the authors' names of tensors."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.errors import TeacherError
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.teachers import dinov2, load_teacher, vjepa2
from cross4d_cache.teachers.teacher import Teacher

HEADS = 2
Shapes = dict[str, tuple[int, ...]]
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variant with its own small width; the rest of its architecture stays."""
    for variant, width in {"dinov2-s": 32, "dinov2-b": 40, "dinov2-l": 48, "dinov2-g": 56}.items():
        monkeypatch.setitem(dinov2._SHAPES, variant, (width, 2, HEADS))
    for variant, (width, ratio, size) in {
        "vjepa2-l": (32, 4.0, 32),
        "vjepa2-h": (40, 4.0, 32),
        "vjepa2-g": (44, 48 / 11, 32),
        "vjepa2-g-384": (44, 48 / 11, 48),
    }.items():
        monkeypatch.setitem(vjepa2._SHAPES, variant, (width, 2, HEADS, ratio))
        monkeypatch.setitem(CATALOGUE, variant, replace(CATALOGUE[variant], image=size))


def block_shapes(width: int, hidden: int) -> Shapes:
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
    shapes: Shapes = {}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes | {f"{norm}.{part}": (width,) for norm in ("norm1", "norm2") for part in ("weight", "bias")}


def dinov2_shapes(width: int, depth: int, *, registers: bool, swiglu: bool) -> Shapes:
    """What is in the files, from docs/decisions/0016."""
    block = block_shapes(width, 4 * width) | {"ls1.gamma": (width,), "ls2.gamma": (width,)}
    if swiglu:
        hidden = (8 * width // 3 + 7) // 8 * 8
        block = {name: shape for name, shape in block.items() if not name.startswith("mlp")}
        block |= {"mlp.w12.weight": (2 * hidden, width), "mlp.w12.bias": (2 * hidden,)}
        block |= {"mlp.w3.weight": (width, hidden), "mlp.w3.bias": (width,)}
    shapes: Shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)}
    shapes |= {"register_tokens": (1, 4, width)} if registers else {}
    shapes |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    shapes |= {f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block.items()}
    return shapes | {"norm.weight": (width,), "norm.bias": (width,)}


def vjepa2_shapes(width: int, depth: int, hidden: int) -> Shapes:
    shapes: Shapes = {"patch_embed.proj.weight": (width, 3, 2, 16, 16), "patch_embed.proj.bias": (width,)}
    shapes |= {f"blocks.{index}.{name}": shape for index in range(depth) for name, shape in block_shapes(width, hidden).items()}
    return shapes | {"norm.weight": (width,), "norm.bias": (width,)}


def draw(shapes: Shapes, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def dinov2_state(variant: str, seed: int = 0) -> State:
    width, depth, _ = dinov2._SHAPES[variant.removesuffix("-reg")]
    return draw(dinov2_shapes(width, depth, registers=variant.endswith("-reg"), swiglu=variant.startswith("dinov2-g")), seed)


def vjepa2_state(variant: str, seed: int = 0) -> State:
    width, depth, _, ratio = vjepa2._SHAPES[variant]
    return draw(vjepa2_shapes(width, depth, round(width * ratio)), seed)


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(state: State, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def rotate(x: Tensor, places: Tensor) -> Tensor:
    """V-JEPA 2's rotary positions of `(image, head, token, channel)`: pairs of neighbouring channels turn; the first half of the channels
    and the second half have the same frequencies, as in the authors' code, which says of it that it cannot be changed any more."""
    half = x.shape[-1] // 2
    turned = torch.empty_like(x)
    for channel in range(0, x.shape[-1], 2):
        for this, other, sign in ((channel, channel + 1, -1.0), (channel + 1, channel, 1.0)):
            angle = places / 10000 ** ((this % half) / half)
            turned[..., this] = x[..., this] * angle.cos() + sign * x[..., other] * angle.sin()
    return turned


def rotate_in_space_and_time(x: Tensor, side: int) -> Tensor:
    """A third of each head's channels (an even number) for the tubelet, one for the row, one for the column; the rest stays."""
    token = torch.arange(x.shape[2])
    dim = 2 * (x.shape[-1] // 3 // 2)
    parts = [token // side**2, token % side**2 // side, token % side]
    turned = [rotate(x[..., number * dim : (number + 1) * dim], places.float()) for number, places in enumerate(parts)]
    return torch.cat([*turned, x[..., 3 * dim :]], dim=-1)


def blocks(state: State, x: Tensor, side: int | None = None) -> Tensor:
    """The blocks and the final norm; with rotary positions on a grid of `side` patches a side, if given."""
    for name in sorted({key.split(".norm1")[0] for key in state if ".norm1" in key}):
        q, k, v = linear(state, f"{name}.attn.qkv", norm(state, f"{name}.norm1", x)).unflatten(-1, (3, HEADS, -1)).unbind(2)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        if side is not None:
            q, k = rotate_in_space_and_time(q, side), rotate_in_space_and_time(k, side)
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(state, f"{name}.attn.proj", mixed.transpose(1, 2).flatten(2)) * state.get(f"{name}.ls1.gamma", torch.tensor(1.0))
        hidden = norm(state, f"{name}.norm2", x)
        if f"{name}.mlp.w12.weight" in state:
            gate, value = linear(state, f"{name}.mlp.w12", hidden).chunk(2, dim=-1)
            hidden = linear(state, f"{name}.mlp.w3", gate * gate.sigmoid() * value)
        else:
            hidden = linear(state, f"{name}.mlp.fc2", F.gelu(linear(state, f"{name}.mlp.fc1", hidden)))
        x = x + hidden * state.get(f"{name}.ls2.gamma", torch.tensor(1.0))
    return norm(state, "norm", x)


def plain_dinov2(state: State, pixels: Tensor) -> Tensor:
    patches = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=14)
    side = patches.shape[-1]
    grid = state["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    registers = state.get("register_tokens", torch.empty(1, 0, patches.shape[1]))
    if registers.shape[1]:
        grid = F.interpolate(grid, size=(side, side), mode="bicubic", antialias=True)
    else:
        grid = F.interpolate(grid, scale_factor=(side + 0.1) / 37, mode="bicubic")
    first = state["cls_token"] + state["pos_embed"][:, :1]
    tokens = [part.expand(len(pixels), -1, -1) for part in (first, registers)] + [(patches + grid).flatten(2).mT]
    return blocks(state, torch.cat(tokens, dim=1))[:, 1 + registers.shape[1] :]


def plain_vjepa2(state: State, pixels: Tensor) -> Tensor:
    patches = F.conv3d(pixels.transpose(1, 2), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=(2, 16, 16))
    return blocks(state, patches.flatten(2).mT, patches.shape[-1]).unflatten(1, (patches.shape[2], -1))


def clips(teacher: Teacher) -> tuple[Tensor, Tensor]:
    """Two clips of grey images, and the same as ImageNet's statistics normalise them."""
    size = teacher.spec.image_size
    grey = torch.rand(2, teacher.spec.window, size, size, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    return grey, (grey[:, :, None].expand(-1, -1, 3, -1, -1) - mean) / std


def save(content: object, path: Path) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("variant", ["dinov2-s", "dinov2-l-reg", "dinov2-g", "dinov2-g-reg"])
@pytest.mark.parametrize("size", [56, 126])
def test_dinov2_gives_the_features_of_the_authors_model(variant: str, size: int, tmp_path: Path) -> None:
    state = dinov2_state(variant)
    path = tmp_path / "dinov2_vit14_pretrain.pth"
    teacher = load_teacher(variant, save(state, path), image_size=size)
    grey, pixels = clips(teacher)
    torch.testing.assert_close(teacher(grey).tokens[:, 0], plain_dinov2(state, pixels[:, 0]), atol=2e-4, rtol=1e-4)
    spec = teacher.spec
    assert (spec.name, spec.weights, spec.revision, spec.sha256) == (variant, path.name, None, sha256_file(path))


@pytest.mark.parametrize("variant", ["vjepa2-l", "vjepa2-g", "vjepa2-g-384"])
@pytest.mark.parametrize("size", [None, 64])
def test_vjepa2_gives_the_features_of_the_authors_model(variant: str, size: int | None, tmp_path: Path) -> None:
    """The moving average counts where a file has both; names are wrapped, and a table of positions is a leftover."""
    wanted, other = vjepa2_state(variant), vjepa2_state(variant, seed=1)
    leftover = {"module.backbone.pos_embed": torch.zeros(1, 8, 4)}
    held = {
        entry: {f"module.backbone.{name}": tensor for name, tensor in state.items()} | leftover
        for entry, state in (("encoder", other), ("target_encoder", wanted))
    }
    path = save(held | {"predictor": {"module.a": torch.zeros(1)}, "opt": {"step": 3}, "epoch": 9}, tmp_path / "vitl.pt")
    teacher = load_teacher(variant, path, window=4, image_size=size)
    grey, pixels = clips(teacher)
    assert teacher.spec.image_size == (size or CATALOGUE[variant].image)
    torch.testing.assert_close(teacher(grey).tokens, plain_vjepa2(wanted, pixels), atol=2e-4, rtol=1e-4)
    alone = load_teacher(variant, save({"encoder": held["encoder"]}, tmp_path / "alone.pt"), window=4, image_size=size)
    torch.testing.assert_close(alone(grey).tokens, plain_vjepa2(other, pixels), atol=2e-4, rtol=1e-4)


REAL_DINOV2 = {
    "dinov2-s": (384, 12, 6, 175),
    "dinov2-b": (768, 12, 12, 175),
    "dinov2-l": (1024, 24, 16, 343),
    "dinov2-g": (1536, 40, 24, 567),
}


@pytest.mark.parametrize("variant", family("dinov2"))
def test_names_and_shapes_of_the_published_dinov2_files_are_those_of_the_model(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size, registers = variant.removesuffix("-reg"), variant.endswith("-reg")
    width, depth, heads, num_tensors = REAL_DINOV2[size]
    monkeypatch.setitem(dinov2._SHAPES, size, (width, depth, heads))
    with torch.device("meta"):
        shapes = dinov2_shapes(width, depth, registers=registers, swiglu=size == "dinov2-g")
        original = {name: torch.empty(shape) for name, shape in shapes.items()}
        expected = dinov2.build(variant).state_dict()
    assert len(original) == num_tensors + registers
    found = dinov2.from_original(original)
    assert {name: tensor.shape for name, tensor in found.items()} == {name: tensor.shape for name, tensor in expected.items()}


@pytest.mark.parametrize("kind", ["prefixed", "half", "safetensors", "transformers", "beside a namespace", "old archive"])
def test_the_same_tensors_in_other_wrappings(kind: str, tmp_path: Path) -> None:
    state = dinov2_state("dinov2-s")
    path = tmp_path / "weights.pth"
    content: Any = state
    if kind == "prefixed":
        content = {f"module.{name}": tensor for name, tensor in state.items()}
    elif kind == "half":
        state = {name: tensor.half().float() for name, tensor in state.items()}
        content = {name: tensor.half() for name, tensor in state.items()}
    elif kind == "transformers":
        content = dinov2.from_original(state)
    if kind == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(state, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind != "old archive")
    teacher = load_teacher("dinov2-s", str(path), image_size=56)
    path.write_bytes(b"")  # what was loaded does not hang on the file
    grey, pixels = clips(teacher)
    torch.testing.assert_close(teacher(grey).tokens[:, 0], plain_dinov2(state, pixels[:, 0]), atol=2e-4, rtol=1e-4)
    assert {parameter.dtype for parameter in teacher.model.parameters()} == {torch.float32}


def test_a_command_line_beside_the_model_is_no_code(tmp_path: Path) -> None:
    held = {"target_encoder": vjepa2_state("vjepa2-l"), "args": argparse.Namespace(lr=0.1)}
    assert load_teacher("vjepa2-l", save(held, tmp_path / "vitl.pt"), window=2).spec.channels == 32


def changed(state: State, what: str) -> dict[str, Any]:
    match what:
        case "missing":
            return {name: tensor for name, tensor in state.items() if name != "blocks.1.mlp.fc1.weight"}
        case "surplus":
            return state | {f"head.{number}.weight": torch.zeros(1) for number in range(5)}
        case "mis-shaped":
            return state | {"pos_embed": torch.zeros(1, 257, 32)}
        case "no tensor":
            return state | {"epoch": 3}
        case _:
            return state | {"blocks.0.attn.qkv.weight": torch.zeros(95, 32)}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"1 tensors missing \(encoder.layer.1.mlp.fc1.weight\)"),
        ("surplus", r"5 tensors surplus \(head.0.weight, head.1.weight, head.2.weight, ...\)"),
        ("mis-shaped", r"1 tensors of another shape \(embeddings.position_embeddings \(1, 257, 32\) instead of \(1, 1370, 32\)\)"),
        ("no tensor", r"1 entries that are no tensors \(epoch\)"),
        ("unequal thirds", r"encoder.layer.0.attention.v_proj.weight \(31, 32\) instead of \(32, 32\)"),
    ],
)
def test_what_does_not_fit_is_named(what: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=message):
        load_teacher("dinov2-s", save(changed(dinov2_state("dinov2-s"), what), tmp_path / "a.pth"))


@pytest.mark.parametrize("variant", ["dinov2-b", "dinov2-s-reg", "dinov2-g"])
def test_the_weights_of_another_variant_say_which(variant: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=f"holds the weights of {variant}, not of dinov2-s") as error:
        load_teacher("dinov2-s", save(dinov2_state(variant), tmp_path / "a.pth"))
    assert f"`teacher.name` {variant}" in str(error.value)


class Code:
    """What would make a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_run(zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"a": Code(marker)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(TeacherError, match=r"needs code \(.*\) to be read, which is not run"):
        load_teacher("dinov2-s", str(tmp_path / "a.pth"))
    assert not marker.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", ["", "no weights", "cut", "cut archive", "a list", "no tensors", "a tensor"])
def test_files_that_hold_no_model_are_refused(content: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    held = {"a list": [torch.zeros(1)], "no tensors": {"epoch": 3, "opt": {}}, "a tensor": torch.zeros(3)}
    if content.startswith("cut"):
        torch.save(dinov2_state("dinov2-s"), path, _use_new_zipfile_serialization=content == "cut archive")
        path.write_bytes(path.read_bytes()[:3000])
    elif content in held:
        torch.save(held[content], path)
    else:
        path.write_text(content)
    with pytest.raises(TeacherError) as error:
        load_teacher("dinov2-s", str(path))
    assert path.name in str(error.value)
    assert "weights_only" not in str(error.value)


def test_what_the_file_holds_instead_is_told(tmp_path: Path) -> None:
    path = save({"ema_encoder": {"a": torch.zeros(1)}, "epoch": 1}, tmp_path / "vjepa2_1_vitl.pt")
    with pytest.raises(TeacherError, match="holds the entries ema_encoder, epoch and no tensors") as error:
        load_teacher("vjepa2-l", path)
    assert "entry target_encoder or encoder" in str(error.value)


@pytest.mark.parametrize("weights", ["weights/vitl.pt", "./a.pth", "model.safetensors"])
def test_a_missing_file_is_not_sought_on_the_hub(weights: str) -> None:
    with pytest.raises(TeacherError, match="there is no file"):
        load_teacher("vjepa2-l", weights)


def test_a_single_file_needs_the_name_of_its_teacher(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match="does not say what model"):
        load_teacher("hf", save(dinov2_state("dinov2-s"), tmp_path / "a.pth"))
