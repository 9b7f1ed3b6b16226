"""Any video transformer of transformers as a teacher: clips in, tokens of tubelets out."""

from dataclasses import asdict

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from cross4d_cache.errors import TeacherError
from cross4d_cache.teachers.blocks import truncate
from cross4d_cache.teachers.final_norm import OWN
from cross4d_cache.teachers.images import check_whole_patches
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice
from cross4d_cache.teachers.weights import LoadedModel
from cross4d_cache.types import TeacherSpec


class VideoTeacher(Teacher):
    """The `encoder` of a loaded model, which gives tokens tubelet by tubelet; the global embedding of a tubelet is their mean.

    Raises:
        TeacherError: the window is not a whole number of tubelets, the image not one of patches, or there is no such layer.
    """

    def __init__(self, loaded: LoadedModel, encoder: torch.nn.Module, choice: TeacherChoice, *, norm: str = OWN) -> None:
        settings, window, image_size = loaded.model.config, choice.window, choice.image_size
        assert image_size is not None, "families know their sizes"
        tubelet = settings.tubelet_size
        if window < tubelet or window % tubelet:
            raise TeacherError(
                f"a window of {window} frames is not a whole number of tubelets of {tubelet}",
                hint=f"pass `teacher.window` {max(1, window // tubelet) * tubelet}",
            )
        check_whole_patches(image_size, settings.patch_size)
        layer = truncate(encoder, settings.num_hidden_layers, choice.layer)
        self.encoder = encoder.to(choice.device)
        spec = TeacherSpec(
            name=choice.name,
            weights=loaded.label,
            revision=loaded.revision,
            sha256=loaded.sha256,
            num_parameters=sum(parameter.numel() for parameter in encoder.parameters()),
            image_size=image_size,
            patch_size=settings.patch_size,
            tubelet=tubelet,
            window=window,
            channels=settings.hidden_size,
            layer=layer,
            dtype=choice.dtype,
            norm=norm,
            **asdict(loaded.preprocessing.normalisation),
        )
        super().__init__(spec, choice.device)

    def forward(
        self, clips: Float32[Tensor, "window frame 3 height width"]
    ) -> tuple[Float[Tensor, "window tubelet patch channel"], Float[Tensor, "window tubelet channel"]]:
        """Tokens of each clip, cut into its tubelets."""
        hidden = self.encoder(clips).last_hidden_state
        tokens = hidden.unflatten(1, (self.spec.window // self.spec.tubelet, self.spec.num_patches))
        return tokens, tokens.mean(dim=2)
