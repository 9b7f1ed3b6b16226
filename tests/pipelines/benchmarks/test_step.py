"""The benchmark of the training step: what it times, what it finds, how it judges."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import point4d
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines.benchmarks import step as benchmark_step
from pipelines.instruments import Largest, Launches, Stopwatch

CPU = torch.device("cpu")


def make_row(**changed: Any) -> dict[str, Any]:
    row = {"encoder": "point4d", "size": "paper", "batch": 16, "waiting": 0.01, "over_arithmetic": 1.9, "clips_per_second": 310.0}
    sizes = {"clips": "24 x 2048", "drift": 1.1, "largest_tensor_megabytes": 100.0, "frame_point_channel_megabytes": 1152.0}
    return {**row, **sizes, "launches": 500, **changed}


def states(rows: list[dict[str, Any]], device: str) -> list[str]:
    return [bar["state"] for bar in benchmark_step.judge(rows, device)]


def test_bars_are_judged_on_their_own_device_and_size() -> None:
    h200 = "NVIDIA H200"
    assert states([], h200) == ["open", "open"]
    assert states([make_row()], "cpu") == ["met", "met", "met", "met", "open", "open"]
    missed = {"waiting": 0.03, "over_arithmetic": 2.1, "largest_tensor_megabytes": 600.0, "launches": 501}
    assert states([make_row(**missed)], "cpu")[:4] == ["missed"] * 4
    assert states([make_row(drift=1.3)], "cpu") == ["met", "met", "met", "open", "open"]
    assert states([make_row()], h200) == ["met", "met", "met", "met", "open"]
    assert states([make_row(), make_row(batch=32, clips_per_second=299.0)], h200)[6:] == ["missed", "open"]
    for other in ({"clips": "8 x 256"}, {"drift": 1.3}):
        assert states([make_row(**other)], h200)[3:] == ["open", "open"]
    assert states([make_row(size="small", launches=501)], h200) == ["met", "met", "open", "open"]
    assert states([make_row()], "NVIDIA H100 80GB HBM3")[3:] == ["open", "open"]
    assert states([make_row(encoder="p4transformer", clips_per_second=61.0)], h200)[2:] == ["open", "met"]


def test_sections_add_up() -> None:
    watch = Stopwatch(CPU)
    slow = watch.around("slow", lambda seconds: time.sleep(seconds) or seconds)
    assert [slow(0.02), slow(0.03)] == [0.02, 0.03]
    with watch.section("fast"):
        pass
    assert 0.05 <= watch.seconds["slow"] < 0.5
    assert watch.seconds["fast"] < 0.02


def test_the_largest_tensor_is_found_also_in_the_backward_pass() -> None:
    weight = torch.ones(10, requires_grad=True)
    with Largest() as largest:
        loss = (weight.expand(1000, 10) * torch.ones(1000, 1)).sum()
    assert largest.num_bytes == 10_000 * 4
    quiet = Largest()
    with quiet:
        torch.ones(7).expand(1000, 7)
    assert quiet.num_bytes == 7 * 4
    with Largest() as backward:
        loss.backward()
    assert backward.num_bytes >= 10_000 * 4


def test_operations_are_counted_but_not_views_and_empty_memory() -> None:
    one, other = torch.ones(4, 6, requires_grad=True), torch.ones(4, 6)
    launches = Launches()
    with launches:
        total = (one * other).view(6, 4).T[1:].sum()  # a product and a sum; the rest only names what is there
        one.split(2), one.unbind(), torch.empty(3), torch.empty_like(other), other.detach()
    assert launches.count == 2
    with launches:
        total.backward()  # the gradient spread over the slice, and the product with `other`
    backward = launches.count - 2
    assert 2 <= backward <= 5
    with launches:
        other.add_(1)
        launches.as_one(lambda: [other.mul_(2) for _ in range(9)])()
        other.sub_(1)
    assert launches.count == 2 + backward + 3


def test_operations_are_those_of_a_gpus_chunks_for_the_whole_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clip of 4 frames has 4 clouds of 16 groups of 8: in two chunks of two clouds each, the same is done twice."""
    monkeypatch.setattr(benchmark_step, "SEQUENCES", 2)
    batch_size, clouds, members = 3, 4, 16 * 8
    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=ClipSettings(num_frames=clouds, num_points=64, stride=1),
        training=TrainingSettings(num_epochs=1, batch_size=batch_size, clips_per_sequence=4),
    )
    training = Pretraining(benchmark_step.make_store(tmp_path / "s.zarr"), settings, make_fabric("cpu"))
    counts = []
    for chunk in (clouds, clouds // 2):
        monkeypatch.setitem(point4d.MOST_MEMBERS, "cuda", batch_size * chunk * members)
        counts.append(benchmark_step.count_launches(training))
    assert counts[0] < counts[1]


def test_command_reports_every_field(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(benchmark_step, "SEQUENCES", 4)
    out = tmp_path / "report.json"
    words = ["--encoders", "point4d", "--size", "tiny", "--batch", "4", "--frames", "4", "--points", "64"]
    monkeypatch.setattr(sys, "argv", ["benchmark_step", *words, "--steps", "2", "--streamed", "--device", "cpu", "--json", str(out)])
    benchmark_step.main()
    report = json.loads(out.read_text())
    assert [row["encoder"] for row in report["rows"]] == ["point4d"]
    for row in report["rows"]:
        assert (row["steps"], row["batch"], row["clips"], row["workers"], row["streamed"]) == (2, 4, "4 x 64", 0, True)
        assert row["drift"] >= 1
        assert set(row["split_seconds"]) == {"grouping", "transformer", "embedding", "head and targets", "backward", "optimiser"}
        assert all(seconds > 0 for seconds in row["split_seconds"].values())
        assert row["step_seconds"] == pytest.approx(row["batch"] / row["clips_per_second"])
        assert row["gigaflops"] > row["gigaflops_without_attention_products"] > 0
        assert row["host_megabytes_peak"] >= row["host_megabytes_before"] > 50
        assert row["frame_point_channel_megabytes"] == 4 * 4 * 64 * 384 * 4 / 2**20
        assert row["largest_tensor_megabytes"] > 0
        assert 100 < row["launches"] < 500
    printed = capsys.readouterr().out
    assert "point4d tiny, batch 4 of 4 x 64" in printed
    assert "open    point4d on an H200" in printed
