"""The evaluating commands as a shell sees them."""

import json

import pytest

from cross4d_train.evaluation.evaluate import EVALUATIONS
from tests.cross4d_train.conftest import make_infos, write_store
from tests.cross4d_train.test_train_cli import run

SMALL = ["--checkpoint", "random", "--size", "tiny", "--frames", "4", "--points", "64", "--device", "cpu"]
OPTIONS = {
    "probe": ["--epochs", 2, "--pooling", "mean+max"],
    "knn": ["--neighbours", 2],
    "finetune": ["--epochs", 1, "--fraction", 0.5],
    "segment": ["--epochs", 1, "--ignore", 2],
    "segment-actions": ["--epochs", 1],
    "robustness": ["--epochs", 2],
    "correspondence": ["--gap", 1],
}


@pytest.fixture(scope="module")
def run_folder(store, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert run("pretrain", "--cache", store, "--out", out, *SMALL[2:], "--epochs", 1).exit_code == 0
    return out


def test_every_evaluation_has_a_case_here():
    assert set(OPTIONS) == set(EVALUATIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_table_on_stdout_progress_on_stderr_and_json_in_a_file(name, store, tmp_path):
    out = tmp_path / "result.json"
    shown = run(name, "--cache", store, *SMALL, *OPTIONS[name], "--out", out)
    assert shown.exit_code == 0, shown.output
    assert "of random (point4d tiny) on fake, protocol cross-subject" in shown.stdout
    assert "100%" in shown.stderr
    record = json.loads(out.read_text())
    assert record["checkpoint"] == "random"
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("name", ["probe", "transfer"])
def test_quiet_evaluations_show_no_progress(name, store, run_folder):
    words = ("--checkpoint", run_folder / "checkpoint.safetensors", "--cache", store, "--epochs", 1, "--windows", 1, "--device", "cpu")
    assert "100%" in run(name, *words).stderr
    quiet = run(name, *words, "--quiet")
    assert quiet.exit_code == 0, quiet.output
    assert "%" not in quiet.stderr
    assert "device cpu; probe: point4d tiny" in quiet.stderr


def test_a_checkpoint_brings_its_clips_and_its_run_into_the_result(store, run_folder):
    result = run("knn", "--checkpoint", run_folder / "checkpoint.safetensors", "--cache", store, "--json")
    record = json.loads(result.stdout)
    assert record["settings"]["clips"] == {"num_frames": 4, "num_points": 64, "stride": 1}
    assert record["training"] == json.loads((run_folder / "settings.json").read_text())
    assert record["pretraining"]["fingerprint"] == record["evaluation"]["fingerprint"]


def test_transfer_is_a_probe_of_everything_on_everything(store, run_folder, tmp_path):
    other = write_store(tmp_path / "other.zarr", make_infos(), weights="other")
    result = run(
        *("transfer", "--checkpoint", run_folder / "checkpoint.safetensors", "--checkpoint", "random", "--cache", store, "--cache", other),
        *("--size", "tiny", "--epochs", 2, "--device", "cpu", "--json"),
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["probes"]
    assert [row[0]["encoder"]["size"] for row in rows] == ["tiny", "tiny"]
    assert rows[0][0]["settings"] == rows[1][0]["settings"], "the untrained encoder is judged as the others are"
    result = run(
        *("transfer", "--checkpoint", run_folder / "checkpoint.safetensors", "--cache", store, "--cache", other),
        *("--epochs", 2, "--windows", 1, "--device", "cpu", "--json"),
    )
    record = json.loads(result.stdout)
    assert [probe["num_test_videos"] for probe in record["probes"][0]] == [4, 4]
    single = run(
        *("probe", "--checkpoint", run_folder / "checkpoint.safetensors", "--cache", other),
        *("--epochs", 2, "--windows", 1, "--device", "cpu", "--json"),
    )
    assert record["probes"][0][1] == json.loads(single.stdout)


def test_transfer_judges_all_encoders_of_a_column_alike(store, run_folder, tmp_path):
    other = tmp_path / "other"
    words = ("pretrain", "--cache", store, "--out", other, "--size", "tiny", "--frames", 3, "--points", 32, "--stride", 1, "--epochs", 1)
    assert run(*words, "--device", "cpu").exit_code == 0
    both = [word for folder in (run_folder, other) for word in ("--checkpoint", folder / "checkpoint.safetensors")]
    result = run("transfer", *both, "--cache", store, "--epochs", 2, "--device", "cpu")
    assert result.exit_code == 2
    assert "judged on" in result.stderr
    assert "num_frames=3" in result.stderr
    words = ("--frames", 4, "--points", 64, "--protocol", "cross-subject")
    assert run("transfer", *both, "--cache", store, "--epochs", 2, "--device", "cpu", *words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["correspondence", "--gap", 4], "gaps 4 in clips of 4 frames"),
        (["correspondence", "--gap", -1], "gaps -1 in clips of 4 frames"),
        (["robustness", "--points", 60], "clips of 15 points a frame"),
        (["probe", "--pooling", "max"], "pooling = 'max'"),
        (["finetune", "--fraction", 2], "fraction"),
        (["segment", "--ignore", 0, "--ignore", 1], "1 of which count"),
        (["probe", "--protocol", "none"], "no protocol 'none'"),
        (["knn", "--neighbours", 0], "num_neighbours = 0"),
        (["probe", "--out", "/nowhere/result.json"], "cannot write /nowhere/result.json"),
        (["probe", "--out", "."], "is a folder"),
    ],
)
def test_what_a_user_can_mend_is_one_message(words, message, store):
    result = run(words[0], "--cache", store, *SMALL, *words[1:])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert "%|" not in result.stderr, "before any work"


def test_stores_without_labels(tmp_path):
    bare = write_store(tmp_path / "bare.zarr", make_infos(), labels=False)
    for name, message in (
        ("segment", "has part labels"),
        ("segment-actions", "has labels of frames"),
        ("correspondence", "has surface ids"),
    ):
        result = run(name, "--cache", bare, *SMALL, *OPTIONS[name])
        assert result.exit_code == 2
        assert message in result.stderr
