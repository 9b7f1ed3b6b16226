"""Teachers of other packages: what they are asked, and what is refused."""

import pytest
import torch
from pydantic import Field
from torch import nn

from cross4d_cache.errors import SettingsError, TeacherError
from cross4d_cache.record import Record
from cross4d_cache.teachers import TEACHERS, load_teacher
from cross4d_cache.teachers.teacher import Teacher, TeacherChoice


class HalvesOptions(Record):
    level: float = Field(default=0.5, ge=0, le=1)


class Halves(Teacher):
    """Which half of the grey values a patch is in."""

    Options = HalvesOptions
    calls_itself: str | None = None

    @classmethod
    def load(cls, choice: TeacherChoice) -> Teacher:
        choice.refuse("weights", "layer")
        model = nn.Linear(1, 2)
        with torch.no_grad():
            model.weight.fill_(choice.options.level)
            model.bias.zero_()
        spec = choice.describe(model, weights="made here", image_size=choice.image_size or 32, patch_size=8, channels=1)
        return cls(spec.model_copy(update={"name": cls.calls_itself or spec.name}), choice.device)

    def forward(self, clips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = (clips[:, 0, 0].unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).flatten(1, 2).mean(-1, keepdim=True) > 0.5).float()
        return tokens[:, None], tokens.mean(1)[:, None]


class Impostor(Halves):
    calls_itself = "tiny"


def test_it_gets_what_was_chosen_and_its_options_are_recorded() -> None:
    teacher = load_teacher(name := TEACHERS.name_of(Halves), image_size=64, options={"level": "0.25"})
    spec = teacher.spec
    assert (spec.name, spec.image_size, spec.num_patches, spec.num_parameters, spec.options) == (name, 64, 64, 4, {"level": 0.25})
    assert (spec.weights, spec.layer, spec.window, spec.dtype, spec.mean, spec.std) == ("made here", 0, 1, "float32", (0, 0, 0), (1, 1, 1))
    other = load_teacher(name, image_size=64).spec
    assert other.options == {"level": 0.5}
    assert other.sha256 != spec.sha256, "the hash is that of the weights"
    stated = load_teacher(name, image_mean=(0.1, 0.2, 0.3), image_std=(1.0, 2.0, 3.0)).spec
    assert (stated.mean, stated.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"level": "2"}, r"option 'level' of teacher \S+Halves: Input should be less than or equal to 1\n  expected: options: level"),
        ({"levels": 1}, r"option 'levels' of teacher \S+Halves: Extra inputs are not permitted"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        load_teacher(TEACHERS.name_of(Halves), options=options)


def test_what_it_has_no_use_for_is_refused_by_name() -> None:
    with pytest.raises(
        TeacherError, match=r"weights w, layer 3 for teacher \S+, .*\n  next: leave out `teacher.weights` and `teacher.layer`"
    ):
        load_teacher(TEACHERS.name_of(Halves), "w", layer=3)
    with pytest.raises(TeacherError, match=r"layer 3 for teacher position, which has no choice of that\n  next: leave out `teacher.layer`"):
        load_teacher("position", layer=3)


def test_it_cannot_pass_itself_off_as_another_one() -> None:
    with pytest.raises(SettingsError, match=r"teacher \S+:Impostor calls itself 'tiny'"):
        load_teacher(TEACHERS.name_of(Impostor))


def test_built_in_teachers_have_no_options() -> None:
    with pytest.raises(SettingsError, match="options of teacher tiny: level"):
        load_teacher("tiny", options={"level": 1})
