"""V-JEPA 2 (Assran et al. 2025): a video teacher, patches of 16 px, tubelets of 2 frames, rotary positions, four variants."""

from dataclasses import replace

from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.teachers.teacher import TeacherChoice
from cross4d_cache.teachers.video import VideoTeacher
from cross4d_cache.teachers.weights import Original, Preprocessing, WeightSource, load_weights
from cross4d_cache.teachers.weights.naming import rename, split_rows

_SHAPES = {
    "vjepa2-l": (1024, 24, 16, 4.0),
    "vjepa2-h": (1280, 32, 16, 4.0),
    "vjepa2-g": (1408, 40, 22, 48 / 11),
    "vjepa2-g-384": (1408, 40, 22, 48 / 11),
}
"""Width, depth, heads, MLP ratio."""

NAMES = {
    r"^patch_embed\.": "embeddings.patch_embeddings.",
    r"^blocks\.": "layer.",
    r"\.attn\.": ".attention.",
    r"^norm\.": "layernorm.",
    r"^": "encoder.",
}
"""The authors' names of tensors (facebookresearch/vjepa2) as patterns, and what they are in transformers."""

ORIGINAL_ENTRIES = ("target_encoder", "encoder")
"""The authors' own loader takes the moving average of the encoder (`checkpoint_key="target_encoder"`); files made from one without the
other hold `encoder` alone."""


def config(variant: str, image_size: int | None = None) -> VJEPA2Config:
    """Architecture of a variant as published: width, depth, heads, MLP ratio; rotary positions follow the image size, pixels."""
    width, depth, heads, mlp_ratio = _SHAPES[variant]
    return VJEPA2Config(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=mlp_ratio,
        crop_size=CATALOGUE[variant].image if image_size is None else image_size,
    )


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the authors' checkpoint by transformers' names."""
    return rename(split_rows(state, "attn.qkv", ("attn.query", "attn.key", "attn.value")), NAMES)


def load(choice: TeacherChoice) -> VideoTeacher:
    """The encoder of a V-JEPA 2 (its predictor is dropped), which sees `window` frames at once; without `weights`, the published ones.

    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    entry = CATALOGUE[choice.name]
    source = WeightSource(
        variant=choice.name,
        variants=family("vjepa2"),
        hub_id=entry.hub_id,
        revision=entry.revision,
        model_types=("vjepa2",),
        build=lambda name: VJEPA2Model(config(name, choice.image_size)),
        preprocessing=Preprocessing(image_size=entry.image if choice.image_size is None else choice.image_size),
        # Positions are rotary; the tables in the authors' files are leftovers that their own model does not load.
        original=Original(rename=from_original, entries=ORIGINAL_ENTRIES, ignored="pos_embed"),
        unused=r"predictor\..*",
        overrides={} if choice.image_size is None else {"crop_size": choice.image_size},
    )
    loaded = load_weights(choice.weights, source, choice.seed)
    encoder, size = loaded.model.get_submodule("encoder"), loaded.model.config.crop_size
    return VideoTeacher(loaded, encoder, replace(choice, image_size=size))
