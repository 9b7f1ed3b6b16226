"""Normalisation is that of transformers' own processor, or what the authors of a file say; where nothing says it, nobody guesses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPProcessor,
    CLIPTokenizer,
    PretrainedConfig,
    RadioConfig,
    RadioModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.dinov3 import SATELLITE, statistics
from cross4d_cache.teachers.images import Normalisation
from cross4d_cache.teachers.weights import Preprocessing
from cross4d_cache.teachers.weights.preprocessing import read_preprocessing

FAMILIES = [
    *("Beit", "Bit", "Blip", "Chameleon", "ChineseCLIP", "CLIP", "ConvNext", "DPT", "DeiT", "EfficientNet", "Flava", "GLPN", "Janus"),
    *("Levit", "MobileNetV1", "MobileNetV2", "MobileViT", "Perceiver", "Pixtral", "PoolFormer", "Pvt", "SegGpt", "Siglip"),
    *("Swin2SR", "TextNet", "ViT"),
]
"""Processors of transformers that make one image of one image, and need no library that is not there."""

RAMP = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (64, 1))[..., None], 3, axis=2)


def read(folder: Path, **settings: Any) -> Preprocessing:
    return read_preprocessing(folder, PretrainedConfig(image_size=48), **{"published": None, "stated": None, **settings})


def apply(found: Normalisation, image: np.ndarray) -> np.ndarray:
    """Bytes as the teacher would see them."""
    return (image.transpose(2, 0, 1) / 255 * found.scale - np.array(found.mean)[:, None, None]) / np.array(found.std)[:, None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [2, 3, 4]},
    ],
    ids=["default", "not normalised", "not rescaled", "another factor", "other statistics"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_normalisation_is_that_of_transformers(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    processor = getattr(transformers, f"{family}ImageProcessorPil")(**changes)
    processor.save_pretrained(tmp_path)
    found = read(tmp_path).normalisation
    plain = {"do_resize": False, "do_center_crop": False, "do_pad": False, "return_tensors": "np"}
    [expected] = processor(images=[RAMP], **plain)["pixel_values"]
    np.testing.assert_allclose(apply(found, RAMP), expected, atol=1e-5 * np.ptp(expected))
    if changes == {} and family != "EfficientNet":  # it divides by the deviation twice
        assert found.std == tuple(processor.image_std if processor.do_normalize else (1, 1, 1))


def save_vit(folder: Path, processor: dict[str, Any] | None) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8)
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    if processor is not None:
        ViTImageProcessorPil(size={"height": 32, "width": 32}, **processor).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("processor", [{}, {"do_normalize": False}, {"rescale_factor": 1 / 51, "image_std": [0.2, 0.3, 0.4]}])
def test_features_are_those_of_processor_and_model(processor: dict[str, Any], tmp_path: Path) -> None:
    teacher = load_teacher("hf", str(save_vit(tmp_path, processor)))
    grey = np.random.default_rng(0).integers(0, 256, (2, 32, 32), dtype=np.uint8)
    pixels = ViTImageProcessorPil.from_pretrained(tmp_path)(images=list(grey[..., None].repeat(3, axis=-1)), return_tensors="pt")
    with torch.inference_mode():
        expected = ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()(**pixels).last_hidden_state[:, 1:]
    torch.testing.assert_close(teacher(torch.from_numpy(grey)[:, None].float() / 255).tokens[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_a_scale_is_recorded_where_there_is_one(tmp_path: Path) -> None:
    """Its absence means 1, as in release 0.1."""
    plain = load_teacher("hf", str(save_vit(tmp_path / "a", {}))).spec
    scaled = load_teacher("hf", str(save_vit(tmp_path / "b", {"rescale_factor": 1 / 51}))).spec
    assert "scale" not in plain.model_dump(mode="json")
    assert scaled.model_dump(mode="json")["scale"] == 5.0
    assert type(scaled).model_validate(scaled.model_dump()) == scaled


@pytest.mark.parametrize(
    ("processor", "size"),
    [
        ({"size": {"height": 40, "width": 40}, "do_center_crop": False}, 40),
        ({"size": {"shortest_edge": 50}, "do_center_crop": True, "crop_size": {"height": 40, "width": 40}}, 40),
        ({"size": {"shortest_edge": 40}, "do_center_crop": False, "crop_size": {"height": 50, "width": 50}}, 40),
        ({"size": {"height": 40, "width": 40}, "do_resize": False, "do_center_crop": False}, 48),
        ({"size": {"height": 40, "width": 50}, "do_center_crop": False}, 48),
        ({}, 48),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_image_size_is_what_comes_out_of_the_processor(processor: dict[str, Any], size: int, named: bool, tmp_path: Path) -> None:
    """Where it leaves the size alone, or nobody wrote one, it is that of the model's configuration."""
    held = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "CLIPImageProcessor", **processor}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(held))
    assert read(tmp_path, published=Normalisation() if named else None).image_size == size


def test_what_a_whole_processor_saves_is_read(tmp_path: Path) -> None:
    """transformers 5 writes `processor_config.json` alone; where an older file lies beside it, it counts."""
    (tmp_path / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    folder = tmp_path / "model"
    CLIPProcessor(CLIPImageProcessorPil(image_mean=[0.1, 0.2, 0.3], crop_size={"height": 64, "width": 64}), tokenizer).save_pretrained(
        folder
    )
    CLIPConfig().save_pretrained(folder)
    assert not (folder / "preprocessor_config.json").exists()
    for _ in range(2):
        found = read(folder)
        assert (found.image_size, found.normalisation.mean, found.normalisation.std[0]) == (64, (0.1, 0.2, 0.3), 0.26862954)
        (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.9] * 3}))


def test_a_folder_without_a_word_is_refused(tmp_path: Path) -> None:
    folder = save_vit(tmp_path, None)
    with pytest.raises(TeacherError, match=r"`teacher\.image_mean` and `teacher\.image_std`"):
        load_teacher("hf", str(folder))
    spec = load_teacher("hf", str(folder), image_mean=(0.5, 0.4, 0.3), image_std=(0.3, 0.2, 0.1)).spec
    assert (spec.image_size, spec.mean, spec.std) == (32, (0.5, 0.4, 0.3), (0.3, 0.2, 0.1))


def test_what_is_stated_counts_before_the_files_and_for_named_teachers_too(tmp_path: Path) -> None:
    stated = {"image_mean": (0.5, 0.4, 0.3), "image_std": (0.3, 0.2, 0.1)}
    teacher, other = load_teacher("dinov2-s", "random", image_size=28, **stated), load_teacher("dinov2-s", "random", image_size=28)
    assert (teacher.spec.mean, teacher.spec.std) == ((0.5, 0.4, 0.3), (0.3, 0.2, 0.1))
    images = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(teacher(images).tokens, other(images).tokens)
    assert load_teacher("hf", str(save_vit(tmp_path, {"do_normalize": False})), **stated).spec.mean == (0.5, 0.4, 0.3)


def test_without_a_class_of_transformers_the_file_has_to_say_all(tmp_path: Path) -> None:
    """Processors of DINOv3 need torchvision, which is not there."""
    path = tmp_path / "preprocessor_config.json"
    held = {"image_processor_type": "DINOv3ViTImageProcessorFast", "image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    path.write_text(json.dumps({**held, "rescale_factor": 1 / 51}))
    assert read(tmp_path).normalisation == Normalisation(mean=SATELLITE.mean, std=SATELLITE.std, scale=5.0)
    path.write_text(json.dumps({**held, "do_rescale": False}))
    assert read(tmp_path).normalisation.scale == 255
    path.write_text(json.dumps({**held, "do_normalize": False}))
    assert read(tmp_path).normalisation.std == (1, 1, 1)
    path.write_text(json.dumps({**held, "image_mean": None}))
    with pytest.raises(TeacherError, match="does not say how"):
        read(tmp_path)


@pytest.mark.parametrize("family", ["Siglip2", "Qwen2VL", "LayoutLMv2"])
def test_processors_that_do_more_are_refused(family: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": f"{family}ImageProcessor"}))
    with pytest.raises(TeacherError, match=f"{family}ImageProcessorPil takes no grey image") as error:
        read(tmp_path)
    assert "`teacher.image_mean`" in str(error.value)


@pytest.mark.parametrize("said", [None, {"do_normalize": False, "image_processor_type": "CLIPImageProcessor", "do_center_crop": False}])
def test_a_model_that_normalises_inside_is_not_normalised_twice(said: dict[str, Any] | None, tmp_path: Path) -> None:
    config = RadioConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=64, max_img_size=64, patch_size=16
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        RadioModel(config).save_pretrained(tmp_path)
    if said is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    teacher = load_teacher("hf", str(tmp_path), image_size=64)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = RadioModel.from_pretrained(tmp_path).eval()(images.expand(-1, 3, -1, -1)).features
    torch.testing.assert_close(teacher(images).tokens[:, 0], expected)


@pytest.mark.parametrize(
    ("variant", "names", "place", "satellite"),
    [
        ("dinov3-l", ["local_cls_norm.weight"], "renamed.pth", True),
        ("dinov3-l", ["norm.weight"], "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth", False),
        ("dinov3-l", [], "facebook/dinov3-vitl16-pretrain-sat493m", True),
        ("dinov3-7b", ["local_cls_norm.weight"], "dinov3_vit7b16_pretrain_lvd1689m-a955f4ea.pth", False),
        ("dinov3-7b", ["local_cls_norm.weight"], "dinov3_vit7b16_pretrain_sat493m-a6675841.pth", True),
        ("dinov3-s", ["local_cls_norm.weight"], "a.pth", False),
    ],
)
def test_satellite_models_are_told(variant: str, names: list[str], place: str, satellite: bool) -> None:
    assert (statistics(variant, names, place) == SATELLITE) is satellite


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"image_mean": [0.5]}', '{"image_std": "x"}', '{"image_std": [0.5, 0, 0.5]}', '{"rescale_factor": 0}']
)
@pytest.mark.parametrize(
    "place", [lambda text: ("preprocessor_config", text), lambda text: ("processor_config", f'{{"image_processor": {text}}}')]
)
def test_what_cannot_be_meant_is_refused(content: str, place: Callable[[str], tuple[str, str]], tmp_path: Path) -> None:
    name, text = place(content)
    (tmp_path / f"{name}.json").write_text(text)
    for published in (None, Normalisation()):
        with pytest.raises(TeacherError, match=rf"{name}\.json"):
            read(tmp_path, published=published)
