"""Several devices minimise the loss of one: every objective, batches that do not come out even, and runs that change their number."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cross4d_cache.errors import SettingsError
from cross4d_train.across import Devices, _Gather, in_turn
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.objectives.momentum_encoder import MomentumEncoder
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.run import RunFolder
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from tests.cross4d_train.test_loop import make_training

TOLERANCE = 1e-4
"""Of a loss, relative: matrix products of another number of clips round otherwise, and weights drift apart by that. Seen: 2e-6."""

RANK = """
import json, sys
from pathlib import Path
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.cluster import launch
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.run import RunFolder
from cross4d_train.settings import RunSettings
from cross4d_cache.errors import user_errors
from cross4d_train import loop

fitted, gather = [], loop.gather_statistics
loop.gather_statistics = lambda *arguments: fitted.append(0) or gather(*arguments)

with user_errors():
    fabric = make_fabric("cpu", int(sys.argv[2]))
    launch(fabric)
    for line in Path(sys.argv[3]).read_text().splitlines():
        asked = json.loads(line)
        place = asked["checkpoint"][fabric.global_rank % len(asked["checkpoint"])] if asked["checkpoint"] else None
        checkpoint = None if place is None else load_checkpoint(Path(place))
        training = Pretraining(Path(sys.argv[1]), RunSettings.from_json(asked["settings"].encode()), fabric, checkpoint=checkpoint)
        steps = training.steps() if asked["out"] is None else RunFolder(Path(asked["out"])).record(training)
        curve = []
        for record in steps:
            curve.append([record.loss, *record.scalars.values()])
            if training.step == asked["until"]:
                training.stop()
        weights = [float(value.double().sum()) for value in training.checkpoint().tensors.values()]
        print(json.dumps({"rank": fabric.global_rank, "curve": curve, "weights": weights, "fitted": len(fitted)}), flush=True)
        fitted.clear()
"""


def settings_of(objective: str, *, encoder: str = "point4d", batch_size: int = 3) -> RunSettings:
    return RunSettings(
        encoder=EncoderSettings(name=encoder, size="tiny"),
        objective=ObjectiveSettings(name=objective).as_new(),
        clips=ClipSettings(num_frames=4, num_points=48, stride=1),
        training=TrainingSettings(num_epochs=2, batch_size=batch_size, learning_rate=3e-3, side="train", protocol="cross-subject"),
        augmentation={"scale": 0.1, "yaw_degrees": 30.0},
    )


def run_of(settings: RunSettings, *, checkpoint: list[Path] | None = None, out: Path | None = None, until: int = -1) -> str:
    places = [str(place) for place in checkpoint or []]
    asked = {"settings": settings.model_dump_json(), "checkpoint": places, "out": None if out is None else str(out), "until": until}
    return json.dumps(asked)


def train_on(count: int, store: Path, folder: Path, runs: list[str]) -> list[subprocess.CompletedProcess[str]]:
    """What each of several processes says of some runs, one line a run."""
    (folder / "rank.py").write_text(RANK)
    (folder / "runs").write_text("\n".join(runs))
    shared = {
        "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(30_000 + os.getpid() % 10_000 + count), "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, str(folder / "rank.py"), str(store), str(count), str(folder / "runs")]
    ranks = [
        subprocess.Popen(
            command,
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=240) for process in ranks]
    return [subprocess.CompletedProcess(command, p.returncode, *both) for p, both in zip(ranks, said, strict=True)]


def curves(ended: list[subprocess.CompletedProcess[str]], code: int = 0) -> list[list[list[float]]]:
    """The curve of each run, which all ranks tell alike; so are their weights, to the last bit."""
    assert all(process.returncode == code for process in ended), [process.stderr for process in ended]
    told: list[list[dict[str, Any]]] = [[json.loads(line) for line in process.stdout.splitlines()] for process in ended]
    for runs in zip(*told, strict=True):
        assert [run.pop("rank") for run in runs] == list(range(len(ended)))
        first, *others = [run.pop("fitted") for run in runs]  # conditioning: once, by the first device
        assert first <= 1
        assert not any(others)
        assert all(run == runs[0] for run in runs)
    return [run["curve"] for run in told[0]]


def alone(store: Path, settings: RunSettings) -> list[list[float]]:
    return [[record.loss, *record.scalars.values()] for record in make_training(store, settings).steps()]


SETTINGS = [
    *(settings_of(name) for name in [*OBJECTIVES.built_in, "forecast:field+rollout"]),
    settings_of("dense", encoder="p4transformer"),
    settings_of("dense", encoder="pstnet"),
    settings_of("global", batch_size=7),  # 7 clips, then one for two devices
    settings_of("dense", batch_size=7),
]


def test_the_loss_of_two_devices_is_that_of_one_for_every_objective(store: Path, tmp_path: Path) -> None:
    found = curves(train_on(2, store, tmp_path, [run_of(settings) for settings in SETTINGS]))
    for settings, curve in zip(SETTINGS, found, strict=True):
        expected = alone(store, settings)
        assert len(curve) == len(expected) == (4 if settings.training.batch_size == 7 else 6)
        assert curve[0] == pytest.approx(expected[0], rel=TOLERANCE, abs=1e-5), settings.objective.name
        losses = [row[0] for row in curve]
        assert losses == pytest.approx([row[0] for row in expected], rel=TOLERANCE), settings.objective.name


def stopped_after(step: int, store: Path, settings: RunSettings, out: Path) -> Path:
    """The checkpoint of a run on one device."""
    training, folder = make_training(store, settings), RunFolder(out)
    for record in folder.record(training):
        if record.step == step - 2:  # the step that is under way is finished
            training.stop()
    assert load_checkpoint(folder.checkpoint_path).record.step == step
    return folder.checkpoint_path


def test_a_run_goes_on_on_another_number_of_devices(store: Path, tmp_path: Path) -> None:
    """Four steps on three devices, the rest on one; four on one, the rest on three; and devices that find different checkpoints, as those
    of nodes do that share no file system, are refused.
    """
    settings, out = settings_of("dense"), tmp_path / "run"
    checkpoint = stopped_after(4, store, settings, tmp_path / "other")
    runs = [
        run_of(settings, out=out, until=3),
        run_of(settings, checkpoint=[checkpoint]),
        run_of(settings, checkpoint=[checkpoint, stopped_after(3, store, settings, tmp_path / "earlier")]),
    ]
    ended = train_on(3, store, tmp_path, runs)
    for process in ended:
        assert "do not find the same settings, store and checkpoint" in process.stderr
    begun, rest_on_three = curves(ended, code=2)
    expected = [pytest.approx(row, rel=TOLERANCE, abs=1e-5) for row in alone(store, settings)]
    rest_on_one = make_training(store, settings, checkpoint=load_checkpoint(out / "checkpoint.safetensors")).steps()
    assert [*begun, *([record.loss, *record.scalars.values()] for record in rest_on_one)] == expected
    assert rest_on_three == expected[4:]


@pytest.mark.parametrize("num_clips", [1, 4, 5, 6])
def test_shares_come_together_in_the_order_of_the_batch(num_clips: int) -> None:
    clips = torch.arange(num_clips, dtype=torch.float32)[:, None, None, None].expand(-1, 2, 3, 3)
    shares = [Devices(rank=rank, count=3).share(clips) for rank in range(3)]
    assert {len(share) for share in shares} == {-(-num_clips // 3)}
    assert torch.equal(in_turn(shares, num_clips), clips)


@pytest.mark.parametrize(("rank", "expected"), [(0, [[2.0], [6.0]]), (1, [[4.0], [0.0]])])
def test_the_gradient_of_tokens_is_that_of_their_own_times_the_number_of_devices(
    rank: int, expected: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three clips on two devices, whose loss is 1, 2 and 3 times their features: device 0 has the first and the third, device 1 the second
    and one that only fills up. Gradients are averaged over devices afterwards, which takes the factor away.
    """
    monkeypatch.setattr(Devices, "_shares", lambda self, own: [own, own])
    own = torch.tensor([[5.0], [7.0]], requires_grad=True)
    features = _Gather.apply(own, Devices(rank=rank, count=2), 3)
    (features * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    assert own.grad is not None
    assert own.grad.tolist() == expected


def test_one_device_needs_no_other(store: Path) -> None:
    """No process group is there, and nothing is copied."""
    Devices().check_agreement("anything", torch.device("cpu"))
    training = make_training(store, settings_of("dense"))
    with Devices().encoding_together(training.encoder):
        assert "forward" not in vars(training.encoder)


class Around(Encoder):
    """An encoder made of another one."""

    channels = 32

    def __init__(self, inner: Encoder) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, points: torch.Tensor) -> Tokens:
        return self.inner(points)


def test_every_encoder_shares_its_work_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the slow copy that an objective has of it; and one within another has its share already."""
    own, given = build_encoder("point4d", "tiny", seed=0), list[int]()
    whole = type(own).forward

    def counted(self: Encoder, points: torch.Tensor) -> Tokens:
        given.append(len(points))
        return whole(self, points)

    monkeypatch.setattr(type(own), "forward", counted)
    monkeypatch.setattr(Devices, "_shares", lambda self, own: [own, own])
    module = nn.ModuleDict({"encoder": Around(own), "copy": MomentumEncoder(own), "head": nn.Linear(3, 3)})
    points = torch.rand(5, 4, 48, 3, generator=torch.Generator().manual_seed(0))
    with Devices(count=2).encoding_together(module):
        outside = [module["encoder"](points), module["copy"](points)]
    assert given == [3, 3]
    assert [len(tokens.features) for tokens in outside] == [5, 5]
    module["encoder"](points)
    assert given == [3, 3, 5]


def test_disagreement_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(count=2)
    monkeypatch.setattr(Devices, "_shares", lambda self, own: [own, own + 1])
    with pytest.raises(SettingsError, match=r"(?s)the 2 processes of the run do not find the same .*`store` and `out` on a file system"):
        devices.check_agreement("mine", torch.device("cpu"))
    monkeypatch.setattr(Devices, "_shares", lambda self, own: [own, own.clone()])
    devices.check_agreement("mine", torch.device("cpu"))
