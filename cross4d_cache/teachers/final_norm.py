"""The norm that a model ends with, where it keeps it for its pooled vector and leaves tokens without."""

import torch
from torch import nn

OWN = "final"
"""What is recorded where the model's last hidden state is taken as it is: after its final norm, if it has one."""

NONE = "none"
"""What is recorded where the norm for the pooled vector is not among the weights."""

POOLED_NORMS = {
    **dict.fromkeys(("clip", "altclip", "chinese_clip", "clipseg", "metaclip_2", "mlcd", "owlvit", "owlv2", "xclip"), "post_layernorm"),
    **dict.fromkeys(("beit", "data2vec-vision", "hiera"), "pooler.layernorm"),
    **dict.fromkeys(("convnext", "convnextv2"), "layernorm"),
}
"""Families of transformers whose norm sees the pooled vector alone, and its name.

Radio, InternVL, Pixtral and the convolutional families besides ConvNeXt have no such norm.
"""


def pooled_norm(model: nn.Module, missing: frozenset[str]) -> tuple[str, nn.Module | None]:
    """The norm to take to each token of a model, and what to record; None where its tokens have been through theirs.

    `missing` are names of the model's tensors that its weights do not hold.
    """
    kind = str(getattr(model.config, "model_type", "")).removesuffix("_vision_model")
    path = POOLED_NORMS.get(kind)
    found = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm) and f".{name}".endswith(f".{path}")]
    if path is None or not found:  # BEiT without mean pooling norms its tokens, and has nothing at this place
        return OWN, None
    name = min(found, key=len)  # blocks have norms of the same name
    norm = model.get_submodule(name)
    if {f"{name}.{part}" for part, _ in norm.named_parameters()} & missing:
        return NONE, None
    return path, norm


def take(norm: nn.Module | None, tokens: torch.Tensor) -> torch.Tensor:
    """Tokens after a norm, if there is one."""
    if norm is None:
        return tokens
    normed: torch.Tensor = norm(tokens)
    return normed
