"""The loop with a teacher in it learns what the one from a store learns, by the same numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
from cross4d_cache.errors import SettingsError
from cross4d_cache.store import open_cache
from cross4d_cache.teachers import load_teacher
from cross4d_cache.work import finish
from cross4d_train.clips import ClipSettings, epoch_requests
from cross4d_train.dataset import ClipDataset
from cross4d_train.settings import RunSettings
from pipelines.benchmarks import online
from pipelines.benchmarks.online import OnlineDataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, msr_folder: Path, tiny_vit: Path) -> Path:
    store = tmp_path_factory.mktemp("online") / "store.zarr"
    request = BuildRequest(
        dataset=DatasetRequest(name="msr_action3d", root=msr_folder),
        teacher=TeacherRequest(name="hf", weights=str(tiny_vit)),
        settings=BuildSettings(points_per_frame=100, views=2, projection="random:16", frames_per_part=9),
    )
    finish(build_store(request, store, device="cpu"))
    return store


def test_batches_are_those_of_the_store(made: Path, tiny_vit: Path) -> None:
    clips = ClipSettings(num_frames=4, num_points=48, stride=2)  # longer than some sequences, whose last frame repeats
    ours, theirs = OnlineDataset(made, clips, load_teacher("hf", str(tiny_vit))), ClipDataset(made, clips)
    requests = epoch_requests(clips, open_cache(made).sequences, range(6), clips_per_sequence=2, seed=0, epoch=0)
    for start in (0, 5):
        online_batch, stored_batch = (dataset.read_batch(requests[start : start + 5]) for dataset in (ours, theirs))
        assert online_batch.keys() == stored_batch.keys()
        for name, value in stored_batch.items():
            found = online_batch[name]
            if name in ("features", "frame_features"):
                assert np.allclose(found.astype(np.float32), value.astype(np.float32), atol=2e-3), name
            else:
                assert np.array_equal(found, value), name


def test_command(made: Path, tiny_vit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    words = [str(made), "--teacher", f"hf={tiny_vit}", "--size", "tiny", "--frames", "3", "--points", "48", "--batch", "4", "--steps", "2"]
    monkeypatch.setattr(sys, "argv", ["online", *words, "--device", "cpu", "--json", str(report)])
    online.main()
    row = json.loads(capsys.readouterr().out)
    assert json.loads(report.read_text()) == {"rows": [row]}
    assert row["times"] == pytest.approx(row["online_step_seconds"] / row["cached_step_seconds"], rel=0.1)
    assert row["largest_difference_of_losses"] < 1e-3
    assert row["steps"] == 2


def test_another_teacher_is_refused(made: Path, tiny_vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load_teacher("hf", str(tiny_vit))
    teacher.spec = teacher.spec.model_copy(update={"sha256": "0" * 64})
    monkeypatch.setattr(online, "load_teacher", lambda *_, **__: teacher)
    settings = RunSettings.for_cache(open_cache(made).manifest)
    with pytest.raises(SettingsError, match=r"(?s)has targets of hf.*the same weights as those of hf=FOLDER"):
        online.measure(made, "hf=FOLDER", settings.changed({"clips.num_frames": 3}), "cpu", 1)
