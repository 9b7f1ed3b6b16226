"""DINOv2 (Oquab et al. 2023): the paper's default teacher, patches of 14 px, four sizes, each with and without register tokens."""

from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.teachers.hf import ImageTeacher
from cross4d_cache.teachers.teacher import TeacherChoice
from cross4d_cache.teachers.weights import Original, Preprocessing, WeightSource, load_weights
from cross4d_cache.teachers.weights.naming import rename, split_rows

REGISTERS = "-reg"
"""How the names of variants with register tokens (Darcet et al. 2024) end."""

_SHAPES = {"dinov2-s": (384, 12, 6), "dinov2-b": (768, 12, 12), "dinov2-l": (1024, 24, 16), "dinov2-g": (1536, 40, 24)}
"""Width, depth, heads."""

NAMES = {
    r"^(cls_token|mask_token|register_tokens)$": r"embeddings.\1",
    r"^pos_embed$": "embeddings.position_embeddings",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^blocks\.": "encoder.layer.",
    r"\.attn\.proj\.": ".attention.o_proj.",
    r"\.ls([12])\.gamma$": r".layer_scale\1.lambda1",
    r"\.mlp\.w3\.": ".mlp.down_proj.",
    r"^norm\.": "layernorm.",
}
"""The authors' names of tensors (facebookresearch/dinov2) as patterns, and what they are in transformers."""


def config(variant: str) -> Dinov2Config | Dinov2WithRegistersConfig:
    """Architecture of a variant as published: width, depth, heads, and SwiGLU in the largest."""
    width, depth, heads = _SHAPES[variant.removesuffix(REGISTERS)]
    kind = Dinov2WithRegistersConfig if variant.endswith(REGISTERS) else Dinov2Config
    return kind(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        image_size=518,
        patch_size=14,
        use_swiglu_ffn=variant.startswith("dinov2-g"),
    )


def build(variant: str) -> Dinov2Model | Dinov2WithRegistersModel:
    """An untrained model of a variant."""
    settings = config(variant)
    return Dinov2Model(settings) if isinstance(settings, Dinov2Config) else Dinov2WithRegistersModel(settings)


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the authors' checkpoint by transformers' names; SwiGLU's gate comes first in their joint matrix."""
    state = split_rows(state, "attn.qkv", ("attention.q_proj", "attention.k_proj", "attention.v_proj"))
    return rename(split_rows(state, "mlp.w12", ("mlp.gate_proj", "mlp.up_proj")), NAMES)


def load(choice: TeacherChoice) -> ImageTeacher:
    """A DINOv2 teacher; without `weights`, the published ones from the hub.

    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    entry = CATALOGUE[choice.name]
    source = WeightSource(
        variant=choice.name,
        variants=family("dinov2"),
        hub_id=entry.hub_id,
        revision=entry.revision,
        model_types=(config(choice.name).model_type,),
        build=build,
        preprocessing=Preprocessing(image_size=entry.image),  # what the published preprocessing crops to
        original=Original(rename=from_original),
        unused=r"embeddings\.mask_token",  # masked patches belong to training
    )
    loaded = load_weights(choice.weights, source, choice.seed)
    return ImageTeacher(loaded, choice)
