"""DINOv3 (Siméoni et al. 2025): an image teacher, patches of 16 px, rotary positions, four register tokens, six sizes."""

from collections.abc import Iterable
from functools import partial

from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.teachers.hf import ImageTeacher
from cross4d_cache.teachers.images import Normalisation
from cross4d_cache.teachers.teacher import TeacherChoice
from cross4d_cache.teachers.weights import Original, Preprocessing, WeightSource, load_weights
from cross4d_cache.teachers.weights.naming import rename, split_rows

_SHAPES = {
    "dinov3-s": (384, 12, 6, 1536, False),
    "dinov3-s+": (384, 12, 6, 1536, True),
    "dinov3-b": (768, 12, 12, 3072, False),
    "dinov3-l": (1024, 24, 16, 4096, False),
    "dinov3-h+": (1280, 32, 20, 5120, True),
    "dinov3-7b": (4096, 40, 32, 8192, True),
}
"""Width, depth, heads, width of the MLP, and whether it is gated (SwiGLU)."""

NAMES = {
    r"^cls_token$": "embeddings.cls_token",
    r"^storage_tokens$": "embeddings.register_tokens",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.",
    r"^blocks\.": "model.layer.",
    r"\.attn\.proj\.": ".attention.o_proj.",
    r"\.ls([12])\.gamma$": r".layer_scale\1.lambda1",
    r"\.mlp\.(fc1|w2)\.": ".mlp.up_proj.",
    r"\.mlp\.(fc2|w3)\.": ".mlp.down_proj.",
    r"\.mlp\.w1\.": ".mlp.gate_proj.",
}
"""The authors' names of tensors (facebookresearch/dinov3) as patterns, and what they are in transformers."""

IGNORED = r"mask_token|rope_embed\.periods|blocks\.\d+\.attn\.qkv\.bias_mask|local_cls_norm\..*"
"""Masked patches and local crops belong to training; positions follow from the configuration, in the file's precision
(`round_periods_as_the_authors`); keys have no bias, as the mask says."""


SATELLITE = Normalisation(mean=(0.430, 0.411, 0.296), std=(0.213, 0.156, 0.143))
"""Of the models that were trained on satellite images (SAT-493M), as the authors' README says."""


def statistics(variant: str, names: Iterable[str], place: str) -> Normalisation | None:
    """Satellite models come in two sizes, each as large as a model of the web.

    Of the large ones the satellite model alone has a norm for the class tokens of local crops (`local_cls_norm`); of the largest
    both have it, so that the name that the authors gave to the file has to tell.
    """
    local = variant == "dinov3-l" and any(name.startswith("local_cls_norm.") for name in names)
    return SATELLITE if local or (variant in ("dinov3-l", "dinov3-7b") and "sat493m" in place) else None


def config(variant: str) -> DINOv3ViTConfig:
    """Architecture of a variant as published; queries and values have a bias in all but the largest."""
    biased = variant != "dinov3-7b"
    width, depth, heads, hidden, gated = _SHAPES[variant]
    return DINOv3ViTConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
        query_bias=biased,
        value_bias=biased,
        num_register_tokens=4,
        image_size=224,
        patch_size=16,
    )


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the authors' checkpoint by transformers' names, without the bias of keys, which is masked."""
    split = split_rows(state, "attn.qkv", ("attention.q_proj", "attention.k_proj", "attention.v_proj"))
    return rename({name: tensor for name, tensor in split.items() if not name.endswith(".attention.k_proj.bias")}, NAMES)


def load(choice: TeacherChoice) -> ImageTeacher:
    """A DINOv3 teacher; without `weights`, the published ones from the hub, for which access must be granted there.



    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    entry = CATALOGUE[choice.name]
    source = WeightSource(
        variant=choice.name,
        variants=family("dinov3"),
        hub_id=entry.hub_id,
        revision=entry.revision,
        model_types=("dinov3_vit",),
        build=lambda name: DINOv3ViTModel(config(name)),
        preprocessing=Preprocessing(image_size=entry.image),
        original=Original(rename=from_original, ignored=IGNORED, statistics=partial(statistics, choice.name)),
        unused=r"embeddings\.mask_token",
    )
    loaded = load_weights(choice.weights, source, choice.seed)
    return ImageTeacher(loaded, choice)
