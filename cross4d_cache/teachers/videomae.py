"""VideoMAE V2 (Wang et al. 2023): a video teacher of 16 frames at 224 px, tubelets of 2 frames, five sizes.

Its position table is fixed for that many frames and patches, so it takes no other window and no other image size.
"""

from dataclasses import replace

from torch import Tensor
from transformers import PretrainedConfig, VideoMAEConfig, VideoMAEModel

from cross4d_cache.catalogue import CATALOGUE, family
from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.final_norm import NONE, OWN
from cross4d_cache.teachers.teacher import TeacherChoice
from cross4d_cache.teachers.video import VideoTeacher
from cross4d_cache.teachers.weights import Original, Preprocessing, WeightSource, load_weights
from cross4d_cache.teachers.weights.naming import rename, split_rows

_SHAPES = {
    "videomae-s": (384, 12, 6, 1536),
    "videomae-b": (768, 12, 12, 3072),
    "videomae-l": (1024, 24, 16, 4096),
    "videomae-h": (1280, 32, 16, 5120),
    "videomae-g": (1408, 40, 16, 6144),
}
"""Width, depth, heads, width of the MLP."""

NAMES = {
    r"^(model\.|encoder\.)": "",
    r"^patch_embed\.proj\.": "embeddings.patch_embeddings.projection.",
    r"^blocks\.": "encoder.layer.",
    r"\.attn\.q_bias$": ".attention.attention.query.bias",
    r"\.attn\.v_bias$": ".attention.attention.value.bias",
    r"\.attn\.(query|key|value)\.weight$": r".attention.attention.\1.weight",
    r"\.attn\.proj\.": ".attention.output.dense.",
    r"\.norm1\.": ".layernorm_before.",
    r"\.norm2\.": ".layernorm_after.",
    r"\.mlp\.fc1\.": ".intermediate.dense.",
    r"\.mlp\.fc2\.": ".output.dense.",
    r"^(fc_)?norm\.": "layernorm.",
}
"""The authors' names of tensors (OpenGVLab/VideoMAEv2) as patterns, and what they are in transformers.

Fine-tuned and distilled models put their last norm behind the mean over tokens (`fc_norm`); here it is taken to each token.
"""

IGNORED = r"(model\.)?head\..*|decoder\..*|encoder_to_decoder\..*|mask_token|(.*\.)?pos_embed"
"""What classifies or reconstructs, and copies of the fixed position table."""


def config(variant: str) -> VideoMAEConfig:
    """Architecture of a variant as published; the norm comes last, also where the authors average tokens before it."""
    width, depth, heads, hidden = _SHAPES[variant]
    return VideoMAEConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        intermediate_size=hidden,
        patch_size=CATALOGUE[variant].patch,
        layer_norm_eps=1e-6,
        use_mean_pooling=False,
    )


def adopt_norm(settings: PretrainedConfig, names: set[str]) -> dict[str, str]:
    """Of a fine-tuned model in transformers' layout, take the norm behind the mean over tokens to each token, as of its authors' file."""
    if "fc_norm.weight" not in names:
        return {}
    settings.use_mean_pooling = False
    return {f"fc_norm.{part}": f"layernorm.{part}" for part in ("weight", "bias")}


def from_original(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the authors' checkpoint by transformers' names."""
    return rename(split_rows(state, "attn.qkv", ("attn.query", "attn.key", "attn.value")), NAMES)


def load(choice: TeacherChoice) -> VideoTeacher:
    """A VideoMAE V2 teacher; without `weights`, the published ones from the hub.

    Raises:
        TeacherError: the weights cannot be had or do not fit, or another window or image size.
    """
    entry = CATALOGUE[choice.name]
    source = WeightSource(
        variant=choice.name,
        variants=family("videomae"),
        hub_id=entry.hub_id,
        revision=entry.revision,
        model_types=("videomae",),
        build=lambda name: VideoMAEModel(config(name)),
        preprocessing=Preprocessing(image_size=entry.image),
        original=Original(rename=from_original, entries=("module", "model"), ignored=IGNORED, on_hub=True),
        adapt=adopt_norm,
    )
    loaded = load_weights(choice.weights, source, choice.seed)
    settings = loaded.model.config
    if choice.window != settings.num_frames:
        raise TeacherError(
            f"a window of {choice.window} frames for {choice.name}",
            expected=f"{settings.num_frames}",
            hint=f"pass `teacher.window` {settings.num_frames}",
        )
    if choice.image_size not in (None, settings.image_size):
        raise TeacherError(
            f"image size {choice.image_size} for {choice.name}",
            expected=f"{settings.image_size} px, as its position table is fixed",
            hint="leave out `teacher.image_size`",
        )
    # Bare models that were saved without a head have no last norm at all.
    norm = "fc_norm" if loaded.adopted else OWN if loaded.model.layernorm is not None else NONE
    return VideoTeacher(loaded, loaded.model, replace(choice, image_size=settings.image_size), norm=norm)
