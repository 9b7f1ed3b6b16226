"""The demo's picture, on one sequence and tiny models."""

from pathlib import Path

import matplotlib.image
import pytest
import typer
from lightning_fabric import Fabric
from typer.testing import CliRunner

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.cli import app as cache_app
from cross4d_cache.datasets import open_dataset
from cross4d_cache.record import Record
from cross4d_cache.store import open_cache
from cross4d_cache.teachers import load_teacher
from cross4d_train.cli.app import app as train_app
from cross4d_train.clips import ClipSettings
from cross4d_train.loop import Pretraining
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.demo import BUILD, PICTURED, build_line, draw, pretrain_line, pretrain_request


class AskedError(Exception):
    """A command came to its work; what it asks for."""


def ask(*arguments: object, **_: object) -> None:
    raise AskedError(arguments[0])


@pytest.mark.parametrize(
    ("app", "place", "line", "request_"),
    [
        (cache_app, "cross4d_cache.build.build.build_store", build_line(Path("s")), BUILD),
        (train_app, "cross4d_train.pretrain.pretrain", pretrain_line(Path("s"), Path("r")), pretrain_request(Path("s"), Path("r"))),
    ],
)
def test_the_lines_that_are_shown_ask_for_what_is_done(
    app: typer.Typer, place: str, line: list[str], request_: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, ask)
    result = CliRunner().invoke(app, line[1:])
    assert isinstance(result.exception, AskedError), result.output
    assert result.exception.args == (request_,)


def test_draws_a_row_for_each_pictured_sequence(tiny_vit: Path, tmp_path: Path) -> None:
    options = {"num_humans": "2", "num_animals": "0", "min_frames": "24", "max_frames": "24"}
    dataset = open_dataset("synthetic", options=options)
    drawn = [info.id for info in dataset.sequences() if info.id in PICTURED]
    assert len(drawn) == 2
    others = tuple(info.id for info in dataset.sequences() if info.id not in PICTURED)
    teacher = load_teacher("hf", str(tiny_vit))
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, BuildSettings(exclude=others)), tmp_path / "store.zarr").run():
        pass
    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=ClipSettings(num_frames=4, num_points=64, stride=2),
        training=TrainingSettings(num_epochs=1),
    )
    training = Pretraining(tmp_path / "store.zarr", settings, Fabric(accelerator="cpu", devices=1))
    training.checkpoint().save(tmp_path / "checkpoint.safetensors")
    draw(open_cache(tmp_path / "store.zarr"), tmp_path / "checkpoint.safetensors", tmp_path / "demo.png")
    picture = matplotlib.image.imread(tmp_path / "demo.png")
    assert picture.shape[0] > 600
    assert picture[..., :3].std() > 0.05
