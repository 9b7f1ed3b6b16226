import io
import json
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest

from cross4d_train.cli.app import main
from cross4d_train.encoders import ENCODERS
from tests.cross4d_train.conftest import make_infos, write_store

SMALL = ["--size", "tiny", "--frames", "3", "--points", "48", "--epochs", "2", "--device", "cpu"]
HUGE = str(10**30)


@dataclass
class Outcome:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self):
        return self.stdout + self.stderr


def run(*arguments):
    """What a shell would see of the command."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["cross4d-train", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    result = run("pretrain", "--cache", store, "--out", out, *SMALL, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_pretrain_writes_a_run(finished):
    out, result = finished
    assert result["checkpoint"] == str(out / "checkpoint.safetensors")
    assert (result["steps"], result["num_sequences"], result["num_short_sequences"]) == (2, 8, 0)
    assert result["settings"]["clips"] == {"num_frames": 3, "num_points": 48, "stride": 1}
    assert json.loads((out / "settings.json").read_text()) == result["settings"]
    assert len((out / "log.jsonl").read_text().splitlines()) == 2


def test_a_finished_run_tells_its_result_again(store, finished):
    out, result = finished
    for arguments in (SMALL, ["--resume"]):
        again = run("pretrain", "--cache", store, "--out", out, *arguments, "--json")
        assert again.exit_code == 0, again.output
        assert json.loads(again.stdout) == result
    other = run("pretrain", "--cache", store, "--out", out, "--resume", "--lr", "1", "--epochs", "9")
    assert other.exit_code == 2
    assert "training.learning_rate: 1.0 here, 0.0005 there" in other.stderr


def test_probe_of_a_checkpoint_takes_its_clips(store, finished):
    out, _ = finished
    result = run("probe", "--checkpoint", out / "checkpoint.safetensors", "--cache", store, "--epochs", 5, "--windows", 2, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record["settings"]["clips"] == {"num_frames": 3, "num_points": 48, "stride": 1}
    assert record["pretraining"]["fingerprint"] == record["evaluation"]["fingerprint"]
    assert (record["num_train_videos"], record["num_test_videos"], record["num_classes"]) == (8, 4, 2)
    assert [guess["id"] for guess in record["raw"]["predictions"]] == ["s8", "s9", "s10", "s11"]
    assert record["settings"]["head"]["optimizer"] == "AdamW"
    assert record["teacher"] == "fake (trained)"
    assert not record["random_teacher"]
    assert record["test_seen_in_pretraining"] is False
    assert "note:" not in result.stderr


def test_a_run_that_learned_nothing_is_told(store, tmp_path):
    still = run("pretrain", "--cache", store, "--out", tmp_path / "still", *SMALL, "--lr", "1e-30")
    assert still.exit_code == 0, still.output
    assert still.stderr.count("note: this run may have failed: ") == 1
    assert "--seed" in still.stderr
    record = run("pretrain", "--cache", store, "--out", tmp_path / "still", "--resume", "--json")
    assert json.loads(record.stdout)["outcome"].keys() == {"first_loss", "constant_cosine"}
    learned = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, "--lr", "1e-2", "--epochs", "20")
    assert "may have failed" not in learned.stderr, learned.output


@pytest.mark.parametrize(
    "options", [["--conditioning", "whiten:4"], *(["--objective", "global", "--conditioning", name] for name in ("none", "center"))]
)
def test_objective_and_conditioning_go_into_the_run(store, tmp_path, options):
    result = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, *options, "--json")
    assert result.exit_code == 0, result.output
    settings = json.loads(result.stdout)["settings"]["objective"]
    assert settings["conditioning"] == options[-1]
    assert settings["name"] == ("global" if "global" in options else "dense")
    assert settings.get("standardised") == (True if "center" in options else None)
    other = run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume", "--conditioning", "whiten:5")
    assert other.exit_code == 2
    assert f"objective.conditioning: whiten:5 here, {options[-1]} there" in other.stderr


def test_augmentation_goes_into_the_run_and_is_compared(store, tmp_path):
    command = ("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL)
    result = run(*command, "--augment", "yaw_degrees=180", "--augment", "jitter_metres=0.01", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["settings"]["augmentation"]["yaw_degrees"] == 180
    assert run("pretrain", "--cache", store, "--out", tmp_path / "run", "--resume").exit_code == 0
    other = run(*command, "--augment", "yaw_degrees=90")
    assert other.exit_code == 2
    assert "augmentation.yaw_degrees: 90.0 here, 180.0 there" in other.stderr
    for words, said in (("yaw=3", "option 'yaw' of --augment"), ("scale=1", "'scale' of --augment"), ("scale", "expected: KEY=VALUE")):
        refused = run("pretrain", "--cache", store, "--out", tmp_path / "new", *SMALL, "--augment", words)
        assert (refused.exit_code, (tmp_path / "new").exists()) == (2, False)
        assert said in refused.stderr


@pytest.mark.parametrize("objective", ["ijepa", "mastpre", "uni4d", "vicreg"])
def test_objectives_without_a_teacher_need_no_targets(tmp_path, objective):
    bare = write_store(tmp_path / "bare.zarr", make_infos(), targets=False)
    result = run("pretrain", "--cache", bare, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--objective", objective)
    assert result.exit_code == 0, result.output
    refused = run("pretrain", "--cache", bare, "--out", tmp_path / "other", *SMALL)
    assert refused.exit_code == 2
    assert "holds no targets, which objective dense learns" in refused.stderr


def test_progress_and_the_numbers_of_steps_go_where_they_are_told(store, tmp_path):
    shown = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, "--logger", "csv")
    assert shown.exit_code == 0, shown.output
    assert "100% 2/2 [" in shown.stderr
    assert "loss=" in shown.stderr
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "run" / "tensorboard").exists()
    quiet = run("pretrain", "--cache", store, "--out", tmp_path / "other", *SMALL, "--logger", "none", "--quiet")
    assert quiet.exit_code == 0, quiet.output
    assert "%" not in quiet.stderr
    assert "device cpu" in quiet.stderr


def test_a_run_that_takes_long_says_so_and_what_is_faster(store, tmp_path, monkeypatch):
    monkeypatch.setattr("cross4d_cache.progress.MEASURED_SECONDS", 0.0)
    words = ("pretrain", "--cache", store, *SMALL, "--size", "small", "--points", "128", "--epochs", "3", "--quiet")
    monkeypatch.setattr("cross4d_cache.progress.LONG_SECONDS", 0.0)
    told = run(*words, "--out", tmp_path / "run").stderr
    assert re.search(r"\nabout 1 min on this CPU; a smaller --size \(mini: about 1 min\) or (a GPU|--device cuda) is faster\n", told), told
    smallest = run(*words, "--size", "tiny", "--out", tmp_path / "tiny").stderr
    assert re.search(r"\nabout 1 min on this CPU; (a GPU|--device cuda) is faster\n", smallest), smallest


def test_encoders_are_listed_with_what_they_cost(monkeypatch):
    for kind in ENCODERS.built_in.values():
        monkeypatch.setattr(kind, "sizes", {"tiny": kind.sizes["tiny"]})
    listed = run("encoders", "--frames", 4, "--points", 256, "--json")
    assert listed.exit_code == 0, listed.output
    rows = {(row["encoder"], row["size"]): row for row in json.loads(listed.stdout)}
    assert set(rows) == {(name, "tiny") for name in ENCODERS.built_in}
    assert rows["point4d", "tiny"]["parameters"] == 15_120
    assert rows["point4d", "tiny"]["tokens"] == 16
    assert "point4d        tiny             15,120      16        32" in run("encoders", "--frames", 4, "--points", 256).stdout
    too_short = run("encoders", "--frames", 1, "--points", 256)
    assert too_short.exit_code == 0
    assert "p4transformer tiny: clips of 1 frames" in too_short.stderr


@pytest.mark.parametrize(("split", "said"), [("all", "(all sequences)"), ("test", "(the test side of protocol cross-subject)")])
def test_test_videos_seen_in_pretraining_are_never_silent(store, tmp_path, split, said):
    trained = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--split", split)
    assert trained.exit_code == 0, trained.output
    assert ("this trains on the test side" in trained.stderr) == (split == "test")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    probed = run("probe", "--checkpoint", checkpoint, "--cache", store, "--epochs", 1, "--windows", 1, "--json")
    assert json.loads(probed.stdout)["test_seen_in_pretraining"] is True
    assert f"note: 4 of the 4 test videos were seen in pre-training {said}" in probed.stderr


@pytest.mark.parametrize("protocols", [(), ("labels",)], ids=["no protocol", "a protocol that places none"])
def test_data_without_labels_is_what_pre_training_is_for(tmp_path, protocols):
    bare = [info.model_copy(update={"splits": {}, "action": -1}) for info in make_infos()]
    path = write_store(tmp_path / "bare.zarr", bare, protocols=protocols)
    trained = run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--json")
    assert trained.exit_code == 0, trained.output
    assert "12 of 12 sequences" in trained.stderr
    assert json.loads(trained.stdout)["sides"] == {"unsplit": 12}


def test_what_is_in_no_split_is_taken_and_the_run_says_so(tmp_path):
    """Labels for 3 of 12, one of them in the test side, and one that another protocol has for its test."""
    splits = [{"labels": "train"}, {"labels": "train"}, {"labels": "test"}, {"other": "test"}, *[{}] * 8]
    infos = [info.model_copy(update={"splits": item}) for info, item in zip(make_infos(), splits, strict=True)]
    path = write_store(tmp_path / "some.zarr", infos, protocols=("labels", "other"))
    trained = run("pretrain", "--cache", path, "--out", tmp_path / "run", *SMALL, "--epochs", 1, "--json")
    assert trained.exit_code == 0, trained.output
    said = "10 of 12 sequences (train+unsplit, protocol labels): 2 train, 8 unsplit; left out: 1 elsewhere, 1 test"
    assert said in trained.stderr
    assert json.loads(trained.stdout)["settings"]["training"]["side"] == "train+unsplit"
    probed = run("probe", "--checkpoint", tmp_path / "run/checkpoint.safetensors", "--cache", path, "--epochs", 1, "--windows", 1, "--json")
    assert json.loads(probed.stdout)["test_seen_in_pretraining"] is False


def test_probe_of_an_untrained_encoder(store):
    result = run("probe", "--checkpoint", "random", "--cache", store, *SMALL, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert "AdamW, rate 0.001, 2 epochs, seed 1" in result.stdout
    assert "the encoder is untrained" in result.stdout


def test_a_random_teacher_is_named_loudly(tmp_path):
    store = write_store(tmp_path / "store.zarr", make_infos(), weights="random:0")
    trained = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL)
    assert trained.exit_code == 0, trained.output
    assert "RANDOM WEIGHTS" in trained.stdout
    assert "WARNING: the teacher fake (random:0) had random weights" in trained.stderr
    probed = run("probe", "--checkpoint", tmp_path / "run" / "checkpoint.safetensors", "--cache", store, "--epochs", 2, "--json")
    assert json.loads(probed.stdout)["random_teacher"]
    assert "WARNING" in probed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "nonsense"], "point4d"),
        (["--size", "nonsense"], "paper, small, mini, tiny"),
        (["--objective", "nonsense"], "dense"),
        (["--objective", "dense:field"], "no switch 'field'"),
        (["--objective", "ijepa", "--conditioning", "none"], "which has no teacher"),
        (["--objective", "vicreg", "--variance-weight", "1"], "leave --variance-weight out"),
        (["--encoder", "p4transformer", "--frames", "1"], "at least 2"),
        (["--device", "nonsense"], "auto, cpu, cuda"),
        (["--protocol", "nonsense"], "cross-subject"),
        (["--split", "nonsense"], "training.side = 'nonsense'"),
        (["--epochs", "0"], "training.num_epochs = 0"),
        (["--lr", "nan"], "training.learning_rate = nan"),
        (["--points", "5"], "at least 16"),
        (["--frames", "-1"], "clips.num_frames = -1"),
        (["--variance-weight", "-1"], "objective.variance_weight = -1.0"),
        (["--variance-weight", "inf"], "objective.variance_weight = inf"),
        *((["--conditioning", name], f"objective.conditioning = {name!r}") for name in ("whiten:0", "whiten", "foo")),
        (["--objective", "global", "--conditioning", "center-patch"], "belong to no patch"),
        (["--lr", "1e300"], "training.learning_rate = 1e+300"),
        (["--seed", "-1"], "training.seed = -1"),
        *(([option, HUGE], f"= {HUGE}") for option in ("--seed", "--epochs", "--batch-size", "--clips-per-sequence")),
        *(([option, HUGE], f"= {HUGE}") for option in ("--frames", "--points", "--stride")),
    ],
)
def test_bad_options_give_one_message_and_leave_nothing_behind(store, tmp_path, arguments, message):
    result = run("pretrain", "--cache", store, "--out", tmp_path / "run", *SMALL, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0"], "head.learning_rate = 0.0"),
        (["--lr", "1e300"], "head.learning_rate = 1e+300"),
        (["--lr", "nan"], "head.learning_rate = nan"),
        (["--epochs", "0"], "head.num_epochs = 0"),
        (["--seed", "-1"], "seed = -1"),
        *(([option, HUGE], f"= {HUGE}") for option in ("--seed", "--epochs", "--windows", "--frames", "--points", "--stride")),
    ],
)
def test_bad_options_of_a_probe_give_one_message(store, arguments, message):
    result = run("probe", "--checkpoint", "random", "--cache", store, *SMALL, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("error:") == 1
    assert "next: " in result.stderr


def test_bad_places_give_one_message(store, tmp_path):
    missing = run("pretrain", "--cache", tmp_path / "none.zarr", "--out", tmp_path / "run")
    assert (missing.exit_code, missing.stderr.count("error:")) == (2, 1)
    taken = run("pretrain", "--cache", store, "--out", store / "zarr.json", *SMALL)
    assert (taken.exit_code, taken.stderr.count("error:")) == (2, 1)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    for checkpoint in ("none.safetensors", "bad.safetensors"):
        broken = run("probe", "--checkpoint", tmp_path / checkpoint, "--cache", store)
        assert (broken.exit_code, broken.stderr.count("error:")) == (2, 1)


@pytest.mark.parametrize(
    ("infos", "message"),
    [(make_infos(labelled=False), "no video"), (make_infos(test_actions=(0, 2)), "lacks: [2]")],
)
def test_labels_a_probe_cannot_use(tmp_path, infos, message):
    store = write_store(tmp_path / "store.zarr", infos)
    result = run("probe", "--checkpoint", "random", "--cache", store, *SMALL)
    assert result.exit_code == 2
    assert message in result.stderr


def test_probe_refuses_a_size_beside_a_checkpoint(store, finished):
    out, _ = finished
    result = run("probe", "--checkpoint", out / "checkpoint.safetensors", "--cache", store, "--size", "tiny")
    assert result.exit_code == 2
    assert "leave them out" in result.stderr


def test_help_imports_nothing_heavy():
    code = "import sys; from cross4d_train.cli.app import main; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    started = time.perf_counter()
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert time.perf_counter() - started < 5


def test_a_store_that_stage_one_built(small_store, tmp_path):
    trained = run("pretrain", "--cache", small_store, "--out", tmp_path / "run", *SMALL, "--json")
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert result["num_sequences"] > 0
    assert 0 < result["scalars"]["visible"] <= 1
    probed = run("probe", "--checkpoint", tmp_path / "run" / "checkpoint.safetensors", "--cache", small_store, "--epochs", 2)
    assert probed.exit_code == 0, probed.output
