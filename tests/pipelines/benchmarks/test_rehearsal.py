"""The rehearsal at NTU's size, here with a few sequences: its stores are whole, and every step is one of the merged store."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cross4d_cache.store import open_cache, verify
from pipelines.benchmarks import rehearsal
from tests.pipelines.benchmarks.conftest import Child


def test_sequences_are_as_many_and_as_long_as_they_should_be() -> None:
    found = rehearsal.infos(56_880)
    assert len({info.id for info in found}) == 56_880
    assert sum(info.num_frames for info in found) / 56_880 == pytest.approx(84, abs=0.1)


def test_a_share_is_a_store_that_reads(tmp_path: Path) -> None:
    base = rehearsal.make_base(tmp_path / "base.zarr")
    sequences = rehearsal.infos(30)
    assert rehearsal.write_share(base, sequences, tmp_path / "share.zarr", seed=0) == 2
    share = open_cache(tmp_path / "share.zarr")
    assert not [problem for check in verify(share) for problem in check.problems]
    assert list(share.sequences) == sequences
    clip = share.read_clip(3, np.array([0, 5]))
    assert clip.features.shape[1] == rehearsal.CHANNELS


def test_all_steps_are_done_on_the_merged_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], child_of: Callable[[ModuleType], Child]
) -> None:
    monkeypatch.setattr(rehearsal, "in_a_process", child_of(rehearsal))
    words = [str(tmp_path / "stores"), "--sequences", "60", "--shares", "2", "--json", str(tmp_path / "report.json")]
    monkeypatch.setattr(sys, "argv", ["rehearsal", *words])
    rehearsal.main()
    assert not (tmp_path / "stores").exists()
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["sequences"], found["frames"]) == (60, sum(info.num_frames for info in rehearsal.infos(60)))
    assert [row["step"] for row in found["rows"]] == ["write 2 shares", "imports alone", "merge", *rehearsal.STEPS]
    assert all(row["megabytes"] is None or row["megabytes"] > 50 for row in found["rows"])
    assert "60 sequences, " in capsys.readouterr().out
