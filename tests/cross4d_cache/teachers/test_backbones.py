"""Backbones of transformers as teachers: those that work, each after its final norm, and those that are refused by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModel,
    BeitConfig,
    CLIPConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    ConvNextV2Config,
    CvtConfig,
    Data2VecVisionConfig,
    DeiTConfig,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    Dinov2Model,
    HieraConfig,
    MobileNetV2Config,
    PixtralVisionConfig,
    PoolFormerConfig,
    PretrainedConfig,
    PvtConfig,
    ResNetConfig,
    Sam2HieraDetConfig,
    SegformerConfig,
    SiglipConfig,
    SiglipVisionConfig,
    SwinConfig,
    TimesformerConfig,
    VideoMAEConfig,
    VideoMAEForVideoClassification,
    VideoMAEModel,
    ViTConfig,
    ViTMAEConfig,
    ViTModel,
    VivitConfig,
    VJEPA2Config,
)

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers import load_teacher, videomae
from cross4d_cache.teachers.patch_grid import find_grid
from cross4d_cache.teachers.teacher import Teacher

STATED = {"image_mean": (0.5, 0.4, 0.3), "image_std": (0.3, 0.2, 0.1)}
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64, "patch_size": 8}
PYRAMID = {"embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "image_size": 64}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50, "eos_token_id": 1}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "vit": lambda: ViTConfig(**VIT),
    "deit": lambda: DeiTConfig(**VIT),
    "clip": lambda: CLIPVisionConfig(**VIT),
    "siglip": lambda: SiglipVisionConfig(**VIT),
    "beit": lambda: BeitConfig(**VIT, use_mean_pooling=True),
    "beit-cls": lambda: BeitConfig(**VIT, use_mean_pooling=False),
    "data2vec": lambda: Data2VecVisionConfig(**VIT, use_mean_pooling=True),
    "convnext": lambda: ConvNextConfig(image_size=64, **STAGES),
    "convnextv2": lambda: ConvNextV2Config(image_size=64, **STAGES),
    "swin": lambda: SwinConfig(**PYRAMID, window_size=4, patch_size=4),
    "hiera": lambda: HieraConfig(**(PYRAMID | {"image_size": [64, 64]}), query_stride=[2, 2], masked_unit_size=[4, 4], num_query_pool=2),
    "pvt": lambda: PvtConfig(image_size=64, **STAGES, num_attention_heads=[1, 1, 1, 1]),
    "segformer": lambda: SegformerConfig(image_size=64, **STAGES, num_attention_heads=[1, 1, 1, 1]),
    "poolformer": lambda: PoolFormerConfig(**STAGES),
    "cvt": lambda: CvtConfig(embed_dim=[8, 16, 24], num_heads=[1, 1, 2], depth=[1, 2, 3]),
    "resnet": lambda: ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "mobilenet": lambda: MobileNetV2Config(image_size=64, depth_multiplier=0.25),
    "sam2": lambda: Sam2HieraDetConfig(
        hidden_size=16,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[7, 7],
    ),
}

LAST_NORMS = {
    **dict.fromkeys(("clip",), "post_layernorm"),
    **dict.fromkeys(("beit", "data2vec", "hiera"), "pooler.layernorm"),
    **dict.fromkeys(("convnext", "convnextv2"), "layernorm"),
}


def draw(model: nn.Module) -> nn.Module:
    """Weights large enough for deep convolutions to answer, and norms that are not the identity."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
            elif "norm" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def save(config: PretrainedConfig, folder: Path, **options: Any) -> Any:
    model = AutoModel.from_config(config, **options).eval()
    draw(model).save_pretrained(folder)
    return model


def hidden(model: nn.Module, teacher: Teacher, images: Tensor) -> Tensor:
    """What a model of transformers gives for the images, tokens last but one."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (teacher.spec.mean, teacher.spec.std))
    with torch.inference_mode():
        found: Tensor = model(pixel_values=(images.expand(-1, 3, -1, -1) - mean) / std).last_hidden_state
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_backbones_are_teachers_whose_tokens_follow_their_patches(name: str, tmp_path: Path) -> None:
    model = save(CONFIGS[name](), tmp_path, **({"add_pooling_layer": True} if name == "data2vec" else {}))
    teacher = load_teacher("hf", str(tmp_path), image_size=64, **STATED)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = hidden(model, teacher, images)
    if expected.ndim == 4:
        expected = expected.movedim(1, 3) if name != "sam2" else expected
        expected = expected.flatten(1, 2)
    path = LAST_NORMS.get(name)
    if path is not None:
        with torch.inference_mode():
            expected = model.get_submodule(path)(expected)
    found = teacher(images)
    torch.testing.assert_close(found.tokens[:, 0], expected[:, -teacher.spec.num_patches :], atol=1e-4, rtol=1e-4)
    recorded = teacher.spec.model_dump(mode="json").get("norm")
    assert recorded == path, "absent where the model's last hidden state is taken as it is, as in release 0.1"


def test_the_class_token_of_clip_is_what_clip_pools(tmp_path: Path) -> None:
    model = save(CONFIGS["clip"](), tmp_path)
    teacher = load_teacher("hf", str(tmp_path), **STATED)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (teacher.spec.mean, teacher.spec.std))
    with torch.inference_mode():
        expected = model(pixel_values=(images.expand(-1, 3, -1, -1) - mean) / std).pooler_output
    torch.testing.assert_close(teacher(images).summary[:, 0], expected)


def test_a_norm_that_is_not_among_the_weights_is_recorded_as_none(tmp_path: Path) -> None:
    model = save(CONFIGS["beit"](), tmp_path, add_pooling_layer=False)
    teacher = load_teacher("hf", str(tmp_path), **STATED)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(teacher(images).tokens[:, 0], hidden(model, teacher, images)[:, 1:])
    assert teacher.spec.norm == "none"


def test_masked_autoencoders_are_refused_and_can_be_made_a_vit(tmp_path: Path) -> None:
    """They hide and shuffle patches at random: other bytes under the same fingerprint."""
    model = save(ViTMAEConfig(**VIT), tmp_path / "mae")
    with pytest.raises(TeacherError, match=r"'vit_mae' gives other features .*at random") as error:
        load_teacher("hf", str(tmp_path / "mae"), **STATED)
    assert "ViTModel.from_pretrained(FOLDER).save_pretrained(OTHER)" in str(error.value)
    ViTModel.from_pretrained(tmp_path / "mae").save_pretrained(tmp_path / "vit")
    teacher = load_teacher("hf", str(tmp_path / "vit"), **STATED)
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    model.config.mask_ratio = 0.0
    mean, std = (torch.tensor(values)[:, None, None] for values in (teacher.spec.mean, teacher.spec.std))
    in_order = torch.arange(64.0).expand(2, -1)
    with torch.inference_mode():
        expected = model((images.expand(-1, 3, -1, -1) - mean) / std, noise=in_order).last_hidden_state[:, 1:]
    torch.testing.assert_close(teacher(images).tokens[:, 0], expected, atol=1e-5, rtol=1e-5)


def columns_first(hidden: Tensor) -> Tensor:
    """Patches column by column."""
    if hidden.ndim == 4:
        return hidden.transpose(2, 3)
    return torch.cat([hidden[:, :1], hidden[:, 1:].unflatten(1, (8, 8)).transpose(1, 2).flatten(1, 2)], dim=1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("vit", columns_first),
        ("vit", lambda hidden: hidden[:, [*range(1, 65), 0]]),  # the class token last
        ("vit", lambda hidden: hidden.roll(1, dims=1)),
        ("vit", lambda hidden: hidden[:, [0, *(1 + torch.randperm(64, generator=torch.Generator().manual_seed(1))).tolist()]]),
        ("vit", lambda hidden: hidden[:, :50]),
        ("vit", lambda hidden: hidden.flatten(0, 1)[None]),  # images joined
        ("vit", lambda hidden: torch.ones_like(hidden)),
        ("vit", lambda hidden: hidden + torch.rand(())),
        ("swin", lambda hidden: hidden.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)),
        ("resnet", columns_first),
        ("resnet", lambda hidden: hidden.flip(2)),
        ("resnet", lambda hidden: hidden[:, :, :, :5]),
    ],
)
def test_tokens_that_do_not_follow_their_patches_are_refused(name: str, change: Callable[[Tensor], Tensor]) -> None:
    model = draw(AutoModel.from_config(CONFIGS[name]())).eval()
    state = torch.random.get_rng_state()

    def run(images: Tensor) -> Tensor:
        found: Tensor = model(pixel_values=images[:, None].expand(-1, 3, -1, -1)).last_hidden_state
        return found

    assert find_grid(run, 64, model.config, torch.device("cpu"), check=True)
    with pytest.raises(TeacherError, match=f"'{name}' gives"):
        find_grid(lambda images: change(run(images)), 64, model.config, torch.device("cpu"), check=True)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_an_image_size_that_nothing_says_can_be_said(tmp_path: Path) -> None:
    save(CONFIGS["resnet"](), tmp_path)
    with pytest.raises(TeacherError, match="does not say its image size"):
        load_teacher("hf", str(tmp_path), **STATED)
    assert load_teacher("hf", str(tmp_path), image_size=64, **STATED).spec.image_size == 64


def whole(kind: str) -> PretrainedConfig:
    vision = {**VIT, "num_channels": 3}
    return {"clip": CLIPConfig, "siglip": SiglipConfig}[kind](text_config=TEXT, vision_config=vision)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_of_models_of_images_and_text_the_image_encoder_is_taken(kind: str, tmp_path: Path) -> None:
    model = save(whole(kind), tmp_path / "whole")
    model.vision_model.save_pretrained(tmp_path / "alone")
    both = [load_teacher("hf", str(tmp_path / name), **STATED) for name in ("whole", "alone")]
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(both[0](images).tokens, both[1](images).tokens)
    assert [teacher.spec.model_copy(update={"sha256": "", "weights": ""}) for teacher in both] == [
        both[0].spec.model_copy(update={"sha256": "", "weights": ""})
    ] * 2


@pytest.mark.parametrize("name", ["hf", "dinov2-s"])
def test_sharded_weights_are_read(name: str, tmp_path: Path) -> None:
    model = draw(Dinov2Model(Dinov2Config(**(VIT | {"patch_size": 14, "image_size": 56}))))
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    shards = sorted((tmp_path / "many").glob("model-*.safetensors"))
    assert len(shards) > 2
    one, many = (load_teacher(name, str(tmp_path / folder), **STATED) for folder in ("one", "many"))
    images = torch.rand(2, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(images).tokens, many(images).tokens)
    before = many.spec.sha256
    tensors = load_file(shards[1])
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, shards[1], {"format": "pt"})
    assert load_teacher(name, str(tmp_path / "many"), **STATED).spec.sha256 != before
    shards[-1].unlink()
    with pytest.raises(TeacherError, match=r"lacks 1 of \d+ shards, the first model-"):
        load_teacher(name, str(tmp_path / "many"), **STATED)


def test_a_dinov2_without_its_mask_token(tmp_path: Path) -> None:
    model = draw(Dinov2Model(Dinov2Config(**(VIT | {"patch_size": 14, "image_size": 56}))))
    model.save_pretrained(tmp_path)
    before = load_teacher("dinov2-s", str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["embeddings.mask_token"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    images = torch.rand(2, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before(images).tokens, load_teacher("dinov2-s", str(tmp_path))(images).tokens)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    save(CONFIGS["vit"](), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["layernorm.weight"][3] = value
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(TeacherError, match=r"1 of 32 numbers of layernorm.weight are NaN or infinite"):
        load_teacher("hf", str(tmp_path), **STATED)


VIDEO = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 32}


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        (lambda: VideoMAEConfig(**VIDEO, patch_size=8), "`teacher.name` videomae"),
        (
            lambda: VJEPA2Config(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, crop_size=32, pred_hidden_size=24),
            "`teacher.name` vjepa2",
        ),
        (lambda: VivitConfig(**VIDEO), "image backbone"),
        (lambda: TimesformerConfig(**VIDEO, num_frames=2), "image backbone"),
    ],
)
def test_models_of_videos_are_named(config: Callable[[], PretrainedConfig], hint: str, tmp_path: Path) -> None:
    config().save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="which sees videos") as error:
        load_teacher("hf", str(tmp_path), **STATED)
    assert hint in str(error.value)


def test_folders_of_timm_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_small_patch16_224", "pretrained_cfg": {"mean": [0.5] * 3}}))
    for name in ("hf", "dinov2-s"):
        with pytest.raises(TeacherError, match="a model of timm, vit_small_patch16_224"):
            load_teacher(name, str(tmp_path))


def test_models_for_a_task_are_named(tmp_path: Path) -> None:
    backbone = Dinov2Config(**(VIT | {"patch_size": 14, "image_size": 56}), out_features=["stage1"] * 1, reshape_hidden_states=False)
    config = DepthAnythingConfig(backbone_config=backbone, neck_hidden_sizes=[8], reassemble_factors=[1], fusion_hidden_size=8)
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path)
    with pytest.raises(TeacherError, match="'depth_anything', for a task") as error:
        load_teacher("hf", str(tmp_path), **STATED)
    assert "model.backbone.save_pretrained" in str(error.value)


def test_types_that_transformers_does_not_have_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit_of_tomorrow"}))
    with pytest.raises(TeacherError, match=r"'vit_of_tomorrow', which transformers .* does not have") as error:
        load_teacher("hf", str(tmp_path))
    assert "update transformers" in str(error.value)


def test_weights_that_may_hold_code_are_named(tmp_path: Path) -> None:
    CONFIGS["vit"]().save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(TeacherError, match=r"no model.safetensors, but pytorch_model.bin, which may hold code"):
        load_teacher("hf", str(tmp_path))


@pytest.mark.parametrize("name", ["swin", "convnext", "hiera", "segformer", "pvt"])
def test_pyramids_have_no_layer_to_choose(name: str, tmp_path: Path) -> None:
    save(CONFIGS[name](), tmp_path)
    with pytest.raises(TeacherError, match="a pyramid whose stages") as error:
        load_teacher("hf", str(tmp_path), image_size=64, layer=1, **STATED)
    assert "leave out `teacher.layer`" in str(error.value)


def test_models_that_join_the_images_of_a_batch_are_refused(tmp_path: Path) -> None:
    save(
        PixtralVisionConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=64, patch_size=8),
        tmp_path,
    )
    with pytest.raises(TeacherError, match="'pixtral' gives features of shape"):
        load_teacher("hf", str(tmp_path), **STATED)


FINE_TUNED = {"num_frames": 4, "patch_size": 8, "use_mean_pooling": True, "layer_norm_eps": 1e-6, **VIDEO}


def test_a_fine_tuned_videomae_gives_what_its_authors_file_gives(tmp_path: Path) -> None:
    """The norm behind the mean over tokens is taken to each token, whichever way the weights are laid out."""
    model = draw(VideoMAEForVideoClassification(VideoMAEConfig(**FINE_TUNED))).eval()
    model.save_pretrained(tmp_path / "fine")
    teacher = load_teacher("videomae-b", str(tmp_path / "fine"), window=4)
    images = torch.rand(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (teacher.spec.mean, teacher.spec.std))
    with torch.inference_mode():
        bare = model.videomae((images[:, :, None].expand(-1, -1, 3, -1, -1) - mean) / std).last_hidden_state
        expected = nn.functional.layer_norm(bare, (24,), model.fc_norm.weight, model.fc_norm.bias, 1e-6).unflatten(1, (2, 16))
    torch.testing.assert_close(teacher(images).tokens, expected, atol=1e-5, rtol=1e-5)
    assert teacher.spec.norm == "fc_norm"


@pytest.mark.parametrize(("pooled", "norm"), [(True, "none"), (False, None)])
def test_a_bare_videomae_says_whether_it_has_a_last_norm(pooled: bool, norm: str | None, tmp_path: Path) -> None:
    VideoMAEModel(VideoMAEConfig(**(FINE_TUNED | {"use_mean_pooling": pooled}))).save_pretrained(tmp_path)
    assert load_teacher("videomae-b", str(tmp_path), window=4).spec.model_dump(mode="json").get("norm") == norm


def test_only_norms_behind_the_mean_are_adopted() -> None:
    config = VideoMAEConfig(use_mean_pooling=False)
    assert videomae.adopt_norm(config, {"videomae.layernorm.weight"}) == {}
