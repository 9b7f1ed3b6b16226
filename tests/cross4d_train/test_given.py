"""Settings of encoders by name, and encoders that a checkpoint cannot name."""

from pathlib import Path

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

import cross4d_train
from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.record import Record
from cross4d_cache.work import finish
from cross4d_train.checkpoint import load_checkpoint, load_encoder
from cross4d_train.encode import EncodeRequest, encode
from cross4d_train.encoders import ENCODERS, build_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.encoders.point4d import Point4D
from cross4d_train.evaluation.encoder_source import open_source
from cross4d_train.objectives import settled
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings

RUN = Path(__file__).parent / "golden" / "run_v1" / "checkpoint.safetensors"


class FirstConfig(Record):
    count: int = Field(default=4, ge=1)


class First(Encoder):
    """The first points of each frame."""

    Config = FirstConfig
    channels = 5

    def __init__(self, config: FirstConfig | None = None) -> None:
        super().__init__(config)
        self.out = nn.Linear(3, 5)

    def forward(self, points: Tensor) -> Tokens:
        kept = points[:, :, : self.config.count]
        frame = torch.arange(points.shape[1]).repeat_interleave(kept.shape[2]).expand(len(points), -1)
        return Tokens(features=self.out(kept.flatten(1, 2)), centroids=kept.flatten(1, 2), frame=frame)


def test_settings_of_an_encoder_replace_those_of_its_size() -> None:
    encoder = build_encoder("point4d", "tiny", options={"fine.radius": "0.35", "depth": 2})
    assert (encoder.config.fine.radius, encoder.config.depth, encoder.config.coarse) == (0.35, 2, Point4D.sizes["tiny"].coarse)
    assert encoder.reach == 0.35
    assert build_encoder("point4d", "tiny").config == Point4D.sizes["tiny"]


def test_settings_are_recorded_as_values_in_their_order() -> None:
    settings = EncoderSettings(size="tiny", options={"fine.radius": "0.35", "depth": "2"}).settled()
    assert list(settings.options.items()) == [("depth", 2), ("fine.radius", 0.35)]
    assert settings.model_dump()["requires"] == ["options"]
    assert EncoderSettings(size="tiny").settled().model_dump() == {"name": "point4d", "size": "tiny"}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"fine.width": 3}, "there is no setting 'fine.width'\n  expected: one of: num_centroids, num_neighbours, radius, widths"),
        ({"depth.x": 3}, "there is no setting 'depth.x'"),
        ({"nonsense": 3}, "there is no setting 'nonsense'\n  expected: one of: fine, coarse, depth, "),
        ({"depth": "deep"}, "depth = 'deep'\n  expected: Input should be a valid integer"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(SettingsError, match=found):
        build_encoder("point4d", "tiny", options=options)


def test_an_encoder_without_sizes_has_one() -> None:
    name = ENCODERS.name_of(First)
    assert EncoderSettings(name=name).build().config == FirstConfig(count=4)
    assert EncoderSettings(name=name, options={"count": "7"}).build().config == FirstConfig(count=7)
    with pytest.raises(SettingsError, match="size 'small'\n  expected: one of: paper"):
        EncoderSettings(name=name, size="small").build()


def test_options_of_objectives_are_checked() -> None:
    with pytest.raises(SettingsError, match="option 'delta' of objective dense: Extra inputs"):
        settled(ObjectiveSettings(name="dense", options={"delta": 1}))
    assert settled(ObjectiveSettings(name="forecast:field")).switches == ("field",)
    assert ObjectiveSettings(name="lab.objective:Huber").kind == "lab.objective:Huber"
    assert ObjectiveSettings(name="lab.objective:Huber").switches == ()


def test_the_class_of_a_checkpoint_is_compared_with_what_it_records() -> None:
    checkpoint, name = load_checkpoint(RUN), ENCODERS.name_of(First)
    with pytest.raises(CheckpointError, match=f"the checkpoint has the encoder point4d, not {name}"):
        load_encoder(checkpoint, name)
    assert isinstance(load_encoder(checkpoint, "point4d"), Point4D)
    recorded = checkpoint.record
    foreign = recorded.settings.model_copy(update={"encoder": EncoderSettings(name="elsewhere:First", size="tiny")})
    other = type(checkpoint)(record=recorded.model_copy(update={"settings": foreign}), tensors=checkpoint.tensors)
    with pytest.raises(SettingsError, match="encoder elsewhere:First is not known here"):
        load_encoder(other)
    with pytest.raises(CheckpointError, match="coarse"):
        load_encoder(other, name)
    assert isinstance(load_encoder(other, "point4d"), Point4D)


GIVEN = EncoderSettings(name="a:B")
CHANGED = [GIVEN.model_copy(update=more) for more in ({"size": "tiny"}, {"options": {"b": 1}})]


@pytest.mark.parametrize("settings", [EncoderSettings(), *CHANGED])
def test_a_checkpoint_decides_its_encoder(settings: EncoderSettings) -> None:
    with pytest.raises(SettingsError, match="beside a checkpoint, which decides them"):
        open_source(str(RUN), encoder=settings, seed=0, dataset="synthetic")


def test_load_takes_the_class() -> None:
    with pytest.raises(CheckpointError, match="the checkpoint has the encoder point4d"):
        cross4d_train.load(RUN, encoder=First, device="cpu")


def test_features_of_a_student_whose_class_has_another_name_here(store: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(RUN)
    settings = checkpoint.record.settings.model_copy(update={"encoder": EncoderSettings(name="elsewhere:Point4D", size="tiny")})
    record = checkpoint.record.model_copy(update={"settings": settings})
    type(checkpoint)(record=record, tensors=checkpoint.tensors).save(tmp_path / "c.safetensors")
    request = EncodeRequest(checkpoint=str(tmp_path / "c.safetensors"), store=str(store), out=tmp_path / "features", limit=1)
    with pytest.raises(SettingsError, match="encoder elsewhere:Point4D is not known here"):
        finish(encode(request, Resources(device="cpu")))
    assert finish(encode(request.model_copy(update={"encoder": "point4d"}), Resources(device="cpu"))).new == 1
