"""The shipped suite on the teachers of the package, and what each of them does; a new one is done when it passes the suite."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetModel,
    VideoMAEConfig,
    VideoMAEModel,
)
from transformers import VJEPA2Model as VideoModel
from transformers.models.videomae import modeling_videomae

from cross4d_cache.catalogue import ALIASES, CATALOGUE
from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.teachers import dinov2, dinov3, load_teacher, teacher_names, videomae, vjepa2
from cross4d_cache.teachers.position_embeddings import round_periods_as_the_authors
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.testing import TeacherContract
from cross4d_cache.testing.teacher import random_images


def save_dinov2(folder: Path, registers: int) -> Path:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        if registers:
            Dinov2WithRegistersModel(Dinov2WithRegistersConfig(num_register_tokens=registers, **shape)).save_pretrained(folder)
        else:
            Dinov2Model(Dinov2Config(**shape)).save_pretrained(folder)
    return folder


def save_resnet(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        config.image_size = 64
        ResNetModel(config).save_pretrained(folder)
    return folder


def save_dinov3(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = DINOv3ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64, num_register_tokens=4
        )
        DINOv3ViTModel(config).save_pretrained(folder)
    return folder


def save_videomae(folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = VideoMAEConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            image_size=32,
            patch_size=8,
            use_mean_pooling=False,
        )
        VideoMAEModel(config).save_pretrained(folder)
    return folder


STATED = {"image_mean": (0.5, 0.4, 0.3), "image_std": (0.3, 0.2, 0.1)}
"""For folders that do not say how images are normalised."""

SEEING = ["hf", "convolutional", "dinov2", "registers", "dinov3", "vjepa2", "vjepa2-window-4", "videomae", "tiny", "layer"]
"""Teachers whose tokens depend on the image."""


class TestTeachers(TeacherContract):
    @pytest.fixture(params=SEEING)
    def teacher(self, request: pytest.FixtureRequest, tmp_path: Path, tiny_vit: Path, tiny_vjepa2: Path) -> Teacher:
        match request.param:
            case "hf":
                return load_teacher("hf", str(tiny_vit))
            case "convolutional":
                return load_teacher("hf", str(save_resnet(tmp_path)), **STATED)
            case "dinov2":
                return load_teacher("dinov2-s", str(save_dinov2(tmp_path, 0)))
            case "registers":
                return load_teacher("dinov2-s-reg", str(save_dinov2(tmp_path, 3)))
            case "vjepa2":
                return load_teacher("vjepa2", str(tiny_vjepa2))
            case "dinov3":
                return load_teacher("dinov3-s", str(save_dinov3(tmp_path)))
            case "videomae":
                return load_teacher("videomae", str(save_videomae(tmp_path)))
            case "layer":
                return load_teacher("dinov2-s", str(save_dinov2(tmp_path, 0)), layer=1)
            case "tiny":
                return load_teacher("tiny", "random")
            case _:
                return load_teacher("vjepa2", str(tiny_vjepa2), window=4)


class TestPosition(TeacherContract):
    sees_images = False

    @pytest.fixture
    def teacher(self) -> Teacher:
        return load_teacher("position")


def images(teacher: Teacher, num_windows: int) -> torch.Tensor:
    return random_images(teacher.spec, num_windows)


def test_image_features_equal_those_of_transformers(tiny_vit: Path) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    clips = images(teacher, 2)
    model = AutoModel.from_pretrained(tiny_vit, add_pooling_layer=False).eval()
    mean, std = torch.tensor(teacher.spec.mean)[:, None, None], torch.tensor(teacher.spec.std)[:, None, None]
    with torch.inference_mode():
        hidden = model(pixel_values=(clips.expand(-1, 3, -1, -1) - mean) / std).last_hidden_state
    torch.testing.assert_close(teacher(clips).tokens[:, 0], hidden[:, 1:])
    torch.testing.assert_close(teacher(clips).summary[:, 0], hidden[:, 0])


def test_video_features_equal_those_of_transformers(tiny_vjepa2: Path) -> None:
    teacher = load_teacher("vjepa2", str(tiny_vjepa2), window=4)
    clips = images(teacher, 2)
    mean, std = torch.tensor(teacher.spec.mean)[:, None, None], torch.tensor(teacher.spec.std)[:, None, None]
    pixels = (clips[:, :, None].expand(-1, -1, 3, -1, -1) - mean) / std
    with torch.inference_mode():
        hidden = VideoModel.from_pretrained(tiny_vjepa2).eval()(pixels, skip_predictor=True).last_hidden_state
    tokens = teacher(clips).tokens
    for tubelet in range(2):
        torch.testing.assert_close(tokens[:, tubelet], hidden[:, tubelet * 16 : (tubelet + 1) * 16])


def test_position_tokens_are_a_fixed_table_whatever_the_image_shows() -> None:
    teacher = load_teacher("position", seed=3)
    clips = images(teacher, 3)
    clips[0] = 0
    clips[1, 0, :, 8:] = 0  # the first patch of each row is left
    features = teacher(clips)
    table = features.tokens[0, 0]
    assert all(torch.equal(features.tokens[number, 0], table) for number in range(3))
    torch.testing.assert_close(features.summary[:, 0], torch.stack([torch.zeros(32), table[::14].mean(dim=0), table.mean(dim=0)]))
    spec = teacher.spec
    assert (spec.image_size, spec.patch_size, spec.channels, spec.weights, spec.is_random) == (112, 8, 32, "table:3", False)
    assert spec.sha256 == sha256_bytes(table.numpy().tobytes())
    assert abs(float(table.mean())) < 0.05
    assert abs(float(table.std()) - 1) < 0.05


def test_position_table_follows_the_seed_and_is_not_what_the_projection_draws() -> None:
    first, again, other = (load_teacher("position", seed=seed, image_size=32) for seed in (3, 3, 4))
    assert first.spec.sha256 == again.spec.sha256 != other.spec.sha256
    assert first.spec.num_patches == 16
    drawn = np.random.default_rng(3).standard_normal((16, 32))
    assert abs(np.corrcoef(drawn.ravel(), first(images(first, 1)).tokens.numpy().ravel())[0, 1]) < 0.2


@pytest.mark.parametrize("weights", ["random", "some/where"])
def test_position_has_no_weights(weights: str) -> None:
    with pytest.raises(TeacherError, match=r"leave out `teacher\.weights`"):
        load_teacher("position", weights)


def test_untrained_tiny_teacher_says_so() -> None:
    assert load_teacher("tiny", "random", seed=5).spec.weights == "random:5"


def test_register_tokens_are_not_patches(tmp_path: Path) -> None:
    assert load_teacher("dinov2-s-reg", str(save_dinov2(tmp_path, 3))).spec.num_patches == 16


def test_preprocessing_comes_from_the_model(tiny_vjepa2: Path) -> None:
    spec = load_teacher("vjepa2", str(tiny_vjepa2)).spec
    assert (spec.image_size, spec.mean, spec.std) == (32, (0.4, 0.4, 0.4), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("content", ["[]", "{", '{"image_mean": [0.5]}', '{"image_std": "x"}'])
def test_malformed_preprocessing_is_refused(content: str, tmp_path: Path) -> None:
    folder = save_dinov2(tmp_path, 0)
    (folder / "preprocessor_config.json").write_text(content)
    with pytest.raises(TeacherError, match="preprocessor_config"):
        load_teacher("dinov2-s", str(folder))


@pytest.mark.parametrize("weights", ["a b/c d", "../nowhere", "no-such-folder"])
def test_weights_that_are_neither_a_folder_nor_a_hub_id_are_refused(weights: str) -> None:
    with pytest.raises(TeacherError):
        load_teacher("hf", weights)


def test_another_image_size_gives_another_grid(tiny_vit: Path, tiny_vjepa2: Path) -> None:
    for name, folder in (("hf", tiny_vit), ("vjepa2", tiny_vjepa2)):
        teacher = load_teacher(name, str(folder), image_size=48)
        assert teacher.spec.patches_per_side == 6
        assert teacher(images(teacher, 1)).tokens.shape[2] == 36


@pytest.mark.parametrize(("name", "size"), [("dinov2-s", 130), ("vjepa2", 250), ("dinov2-s", 0), ("dinov2-s", -14), ("position", 100)])
def test_image_sizes_that_are_no_whole_number_of_patches_are_refused(name: str, size: int, tiny_vjepa2: Path, tmp_path: Path) -> None:
    weights = {"vjepa2": lambda: str(tiny_vjepa2), "dinov2-s": lambda: str(save_dinov2(tmp_path, 0)), "position": lambda: None}[name]()
    with pytest.raises(TeacherError, match="whole number of patches"):
        load_teacher(name, weights, image_size=size)


def test_windows_that_are_no_whole_number_of_tubelets_are_refused(tiny_vjepa2: Path) -> None:
    with pytest.raises(TeacherError, match="tubelets"):
        load_teacher("vjepa2", str(tiny_vjepa2), window=5)


def test_random_weights_follow_the_seed_and_leave_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (load_teacher("dinov2-s", "random", image_size=28, seed=seed).spec for seed in (3, 3, 4))
    assert first.sha256 == again.sha256 != other.sha256
    assert first.is_random
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_of_another_architecture_are_refused(tiny_vit: Path) -> None:
    with pytest.raises(TeacherError, match="'vit'"):
        load_teacher("dinov2-s", str(tiny_vit))


def test_weights_with_missing_tensors_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_dinov2(tmp_path, 0)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.mlp.fc1.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(TeacherError, match=r"encoder.layer.1.mlp.fc1.weight"):
        load_teacher("dinov2-s", str(folder))


def test_unknown_teacher_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError) as error:
        load_teacher("dinov9")
    assert all(name in str(error.value) for name in teacher_names())


BUILD = {
    "dinov2": dinov2.build,
    "dinov3": lambda name: DINOv3ViTModel(dinov3.config(name)),
    "vjepa2": lambda name: VideoModel(vjepa2.config(name)).encoder,
    "videomae": lambda name: VideoMAEModel(videomae.config(name)),
}


@pytest.mark.parametrize("name", [name for name, teacher in CATALOGUE.items() if teacher.family in BUILD])
def test_the_catalogue_describes_the_models(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of sines are left out: they are no parameters, and slow to make."""
    monkeypatch.setattr(modeling_videomae, "get_sinusoid_encoding_table", lambda tokens, width: torch.zeros(1, tokens, width))
    entry = CATALOGUE[name]
    with torch.device("meta"):
        model = BUILD[entry.family](name)
    assert sum(parameter.numel() for parameter in model.parameters()) == entry.parameters
    settings = model.config
    assert (settings.patch_size, getattr(settings, "tubelet_size", 1)) == (entry.patch, entry.tubelet)
    assert entry.image % entry.patch == 0


@pytest.mark.parametrize("name", ["tiny", "position"])
def test_the_catalogue_describes_the_teachers_of_the_package(name: str) -> None:
    entry, spec = CATALOGUE[name], load_teacher(name).spec
    assert (spec.num_parameters, spec.patch_size, spec.tubelet, spec.image_size) == (
        entry.parameters,
        entry.patch,
        entry.tubelet,
        entry.image,
    )


@pytest.mark.parametrize(
    ("name", "millions"), [("dinov2-s", 22.06), ("dinov2-l", 304.37), ("dinov3-7b", 6716.0), ("vjepa2-l", 303.9), ("vjepa2-h", 631.6)]
)
def test_published_sizes(name: str, millions: float) -> None:
    """As the authors state them, or as their files add up."""
    assert CATALOGUE[name].parameters / 1e6 == pytest.approx(millions, rel=5e-4)


def test_a_family_name_is_one_of_its_teachers() -> None:
    assert all(CATALOGUE[name].family == alias for alias, name in ALIASES.items())


@pytest.mark.parametrize("kind", ["hf", "dinov2", "registers", "dinov3"])
def test_a_layer_is_the_output_of_that_block_after_the_final_norm(kind: str, tmp_path: Path, tiny_vit: Path) -> None:
    folder = {
        "hf": lambda: tiny_vit,
        "dinov2": lambda: save_dinov2(tmp_path, 0),
        "registers": lambda: save_dinov2(tmp_path, 3),
        "dinov3": lambda: save_dinov3(tmp_path),
    }[kind]()
    model = AutoModel.from_pretrained(folder).eval()
    if kind == "dinov3":
        round_periods_as_the_authors(model.rope_embeddings)
    for layer in (1, 2):
        teacher = load_teacher("hf", str(folder), layer=layer, **STATED)
        clips = images(teacher, 2)
        pixels = (clips.expand(-1, 3, -1, -1) - torch.tensor(teacher.spec.mean)[:, None, None]) / torch.tensor(teacher.spec.std)[
            :, None, None
        ]
        with torch.inference_mode():
            hidden = model(pixel_values=pixels, output_hidden_states=True).hidden_states[layer]
            expected = getattr(model, "layernorm", getattr(model, "norm", None))(hidden)[:, -teacher.spec.num_patches :]
        torch.testing.assert_close(teacher(clips).tokens[:, 0], expected, atol=1e-5, rtol=1e-5)
        assert teacher.spec.layer == layer


def test_a_layer_of_a_video_teacher(tiny_vjepa2: Path) -> None:
    first, last = (load_teacher("vjepa2", str(tiny_vjepa2), window=4, layer=layer) for layer in (1, 2))
    clips = images(last, 2)
    hidden: list[torch.Tensor] = []
    last.encoder.layer[0].register_forward_hook(
        lambda _module, _inputs, output: hidden.append(output[0] if isinstance(output, tuple) else output)
    )
    assert torch.equal(last(clips).tokens, load_teacher("vjepa2", str(tiny_vjepa2), window=4)(clips).tokens)
    with torch.inference_mode():
        expected = last.encoder.layernorm(hidden[0]).unflatten(1, (2, 16))
    torch.testing.assert_close(first(clips).tokens, expected)
    assert (first.spec.layer, last.spec.layer) == (1, 2)
    assert first.spec.num_parameters < last.spec.num_parameters


@pytest.mark.parametrize(("name", "layer"), [("dinov2-s", 0), ("dinov2-s", 3), ("vjepa2", 9), ("tiny", 6), ("hf", 3), ("position", 1)])
def test_layers_that_do_not_exist_are_refused(name: str, layer: int, tmp_path: Path, tiny_vit: Path, tiny_vjepa2: Path) -> None:
    folders = {"dinov2-s": lambda: str(save_dinov2(tmp_path, 0)), "vjepa2": lambda: str(tiny_vjepa2), "hf": lambda: str(tiny_vit)}
    with pytest.raises(TeacherError, match="layer"):
        load_teacher(name, folders.get(name, lambda: None)(), layer=layer)


def test_blocks_that_cannot_be_told_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"leave out `teacher\.layer`"):
        load_teacher("hf", str(save_resnet(tmp_path)), layer=1, **STATED)


def test_bfloat16_features_are_close_to_those_of_float32() -> None:
    teacher = load_teacher("dinov2-s", "random", image_size=56)
    clips = images(teacher, 8)
    exact = teacher(clips).tokens
    teacher.spec = teacher.spec.model_copy(update={"dtype": "bfloat16"})
    rough = teacher(clips).tokens
    assert not torch.equal(rough, exact)
    assert float(torch.nn.functional.cosine_similarity(rough, exact, dim=-1).mean()) > 0.999


def test_embedded_weights_are_the_ones_of_the_benchmarks() -> None:
    """The package carries them; results that were published name their hash."""
    spec = load_teacher("tiny").spec
    assert spec.weights == "embedded"
    assert spec.sha256 == "2bb70c18fffbec0323701fd43db54e115f46a5faf6e2910827364e5ef4477a22"
    assert not spec.is_random


def test_tokens_of_tiny_do_not_depend_on_how_many_patches_others_fill() -> None:
    """Images that fill few patches take a shorter path; the long one gives the same tokens, and empty patches get zeros."""
    teacher = load_teacher("tiny", "random")
    images = torch.zeros(3, 1, 112, 112)
    images[0, 0, 40:72, 40:72] = torch.rand(32, 32, generator=torch.Generator().manual_seed(0))
    images[1] = torch.rand(1, 112, 112, generator=torch.Generator().manual_seed(1)) + 0.1
    together, alone = teacher(images), teacher(images[:1])
    assert torch.allclose(together.tokens[0], alone.tokens[0], atol=1e-5)
    held = (together.tokens[0, 0] != 0).any(dim=-1).view(14, 14)
    assert held[5:9, 5:9].all()
    assert held.sum() == 16
    assert (together.tokens[2] == 0).all()
    assert together.summary.isfinite().all()
