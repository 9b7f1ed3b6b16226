"""`tiny` as a teacher: its weights are part of the package."""

from importlib import resources

import torch
from jaxtyping import Float, Float32
from safetensors.torch import load as load_tensors
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.store.digest import sha256_bytes
from cross4d_cache.teachers.blocks import truncate
from cross4d_cache.teachers.parameters import build_random
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.teachers.tiny.vit import CHANNELS, DEPTH, IMAGE_SIZE, PATCH_SIZE, TinyViT, cut_patches, subject_patches
from cross4d_cache.types import TeacherSpec

FEW_PATCHES = 80
"""A subject seldom covers more than this many of the 196 patches."""
LABEL = "embedded"
WEIGHTS = "model.safetensors"


class TinyTeacher(Teacher):
    """The model as a teacher; the global embedding is the mean over the patches that hold the subject."""

    def __init__(self, model: TinyViT, *, weights: str, sha256: str, choice: TeacherChoice) -> None:
        layer = truncate(model, DEPTH, choice.layer)
        self.model = model.to(choice.device).eval().requires_grad_(False)
        spec = TeacherSpec(
            name="tiny",
            weights=weights,
            sha256=sha256,
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            tubelet=1,
            window=1,
            channels=CHANNELS,
            layer=layer,
            dtype=choice.dtype,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        super().__init__(spec, choice.device)

    def forward(
        self, clips: Float32[Tensor, "window 1 3 height width"]
    ) -> tuple[Float[Tensor, "window 1 patch channel"], Float[Tensor, "window 1 channel"]]:
        """Tokens of the patches that hold the subject, zeros elsewhere."""
        images = clips[:, 0, 0]
        held = (cut_patches(images) != 0).any(dim=-1)
        tokens = images.new_zeros((*held.shape, CHANNELS))
        count, smaller = held.sum(dim=1), -1
        # Few images need the full length. Which length an image gets is its own affair, and every batch has one of two shapes:
        # so its tokens do not depend on the other images.
        for capacity in (FEW_PATCHES, held.shape[1]):
            chosen = (count > smaller) & (count <= capacity)
            if bool(chosen.any()):
                patches, places, empty = subject_patches(images, capacity)
                found = self.model(patches, places, empty).masked_fill(empty.unsqueeze(-1), 0).to(tokens.dtype)
                spread = torch.zeros_like(tokens).scatter_(1, places.unsqueeze(-1).expand_as(found), found)
                tokens = torch.where(chosen[:, None, None], spread, tokens)
            smaller = capacity
        return tokens.unsqueeze(1), (tokens.sum(dim=1) / count.clamp(min=1).unsqueeze(1)).unsqueeze(1)


def load(choice: TeacherChoice) -> TinyTeacher:
    """The embedded model, or with `weights="random"` the same architecture untrained.

    Raises:
        TeacherError: other weights or another image size: the model is what the package carries.
    """
    if choice.image_size not in (None, IMAGE_SIZE):
        raise TeacherError(
            f"image size {choice.image_size}",
            expected=f"{IMAGE_SIZE} px, which {choice.name} was trained on",
            hint="leave out `teacher.image_size`",
        )
    if choice.weights not in (None, "random"):
        raise TeacherError(
            f"weights {choice.weights} for {choice.name}",
            expected="none: its weights are part of the package",
            hint="leave out `teacher.weights`, or choose `teacher.name` hf for a model of your own",
        )
    model, digest = build_random(TinyViT, choice.seed)
    if choice.weights == "random":
        return TinyTeacher(model, weights=f"random:{choice.seed}", sha256=digest, choice=choice)
    data = resources.files(__package__).joinpath(WEIGHTS).read_bytes()
    model.load_state_dict({name: tensor.float() for name, tensor in load_tensors(data).items()})
    return TinyTeacher(model, weights=LABEL, sha256=sha256_bytes(data), choice=choice)
