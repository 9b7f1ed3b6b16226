import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors import safe_open

from cross4d_cache.errors import CheckpointError, OutputError, SettingsError
from cross4d_cache.store.digest import sha256_file
from cross4d_cache.work import Remark, finish
from cross4d_train import load
from cross4d_train.checkpoint import CHECKPOINT_FILE, load_checkpoint
from cross4d_train.evaluation.evaluate import EVALUATIONS
from cross4d_train.evaluation.written import read_results
from cross4d_train.export import ExportRequest, export
from cross4d_train.exported import CARD_FILE, CONFIG_FILE, FILES, WEIGHTS_FILE, StudentConfig
from tests.cross4d_train.test_features import body, train
from tests.cross4d_train.test_train_cli import run as shell

GOLDEN = Path(__file__).parent / "golden"
QUICK = {
    "probe": ("--epochs", 2, "--windows", 1),
    "knn": ("--windows", 1),
    "finetune": ("--epochs", 1, "--windows", 1, "--fraction", 1),
    "segment": ("--epochs", 1),
    "segment-actions": ("--epochs", 1),
    "robustness": ("--epochs", 1, "--windows", 1, "--points", 64),
    "correspondence": ("--gap", 2),
}


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("export") / "run"
    folder.mkdir()
    train(store).save(folder / CHECKPOINT_FILE)
    return folder


@pytest.fixture(scope="module")
def exported(trained):
    """Its student, to hand on."""
    out = trained.with_name("student")
    finish(export(ExportRequest(run=str(trained), out=out)))
    return out


@pytest.fixture(scope="module")
def results(store, trained):
    """A result of every evaluation, by its name."""
    paths = {name: trained.with_name(f"{name}.json") for name in QUICK}
    for name, options in QUICK.items():
        judged = shell(name, "--checkpoint", trained, "--cache", store, "--out", paths[name], "--device", "cpu", *options)
        assert judged.exit_code == 0, judged.output
    return paths


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_three_files_and_no_state_of_the_optimizer(trained, exported):
    assert sorted(contents(exported)) == sorted(FILES)
    run, student = load_checkpoint(trained / CHECKPOINT_FILE), load_checkpoint(exported / WEIGHTS_FILE)
    assert student.record == run.record
    assert any(name.startswith("optimizer.") for name in run.tensors)
    assert set(student.tensors) == {name for name in run.tensors if not name.startswith("optimizer.")}
    assert all(torch.equal(tensor, run.tensors[name]) for name, tensor in student.tensors.items())
    config = StudentConfig.from_json((exported / CONFIG_FILE).read_bytes())
    assert config.sha256 == sha256_file(exported / WEIGHTS_FILE)
    written = json.loads((exported / CONFIG_FILE).read_bytes())
    assert written == {**json.loads(run.record.model_dump_json()), "sha256": config.sha256}
    assert {"settings", "origin", "encoder_config", "step", "num_steps", "software", "sha256"} <= written.keys()


def test_its_features_and_predictions_are_those_of_the_run(trained, exported):
    points = body(6, 60)
    theirs, mine = load(trained, device="cpu"), load(exported, device="cpu")
    assert repr(mine) == repr(theirs)
    for ask in ("features", "predict", "embedding"):
        np.testing.assert_array_equal(getattr(mine, ask)(points), getattr(theirs, ask)(points))


def test_every_evaluation_says_the_same_of_it(store, exported, results):
    assert set(QUICK) == set(EVALUATIONS)
    for name, options in QUICK.items():
        judged = shell(name, "--checkpoint", exported, "--cache", store, "--json", "--device", "cpu", *options)
        assert judged.exit_code == 0, judged.output
        mine, theirs = json.loads(judged.stdout), json.loads(results[name].read_bytes())
        assert (mine.pop("checkpoint"), theirs.pop("checkpoint")) == ("export0/student", "export0/run"), name
        assert mine == theirs, name


def test_the_same_again_gives_the_same_bytes_and_touches_nothing(trained, exported, results, tmp_path):
    request = ExportRequest(run=str(trained), out=tmp_path / "a", results=(results["probe"],), license="mit")
    assert finish(export(request)).sha256 == sha256_file(tmp_path / "a" / WEIGHTS_FILE)
    before = (tmp_path / "a" / CARD_FILE).stat().st_mtime_ns
    finish(export(request))
    assert (tmp_path / "a" / CARD_FILE).stat().st_mtime_ns == before
    finish(export(request.model_copy(update={"out": tmp_path / "new" / "b", "run": str(exported)})))
    assert contents(tmp_path / "a") == contents(tmp_path / "new" / "b"), "of the student itself too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "new"]


def test_an_earlier_export_is_replaced_and_nothing_else_is(store, trained, tmp_path):
    request = ExportRequest(run=str(trained), out=tmp_path / "a")
    finish(export(request))
    train(store, **{"training.seed": 1}).save(tmp_path / "other.safetensors")
    finish(export(request.model_copy(update={"run": str(tmp_path / "other.safetensors")})))
    assert load(tmp_path / "a").record.settings.training.seed == 1
    before = contents(tmp_path / "a")
    (tmp_path / "a" / "LICENSE").touch()
    with pytest.raises(OutputError, match="something else in it: LICENSE"):
        finish(export(request))
    (tmp_path / "a" / "LICENSE").unlink()
    assert contents(tmp_path / "a") == before
    for strange in ("config.json", "README.md", "thesis.tex"):
        folder = tmp_path / strange.replace(".", "_")
        folder.mkdir()
        (folder / strange).write_text('{"model_type": "vit"}')
        with pytest.raises(OutputError, match="something else in it"):
            finish(export(request.model_copy(update={"out": folder})))
        assert contents(folder) == {strange: b'{"model_type": "vit"}'}
    with pytest.raises(OutputError, match="Not a directory"):
        finish(export(request.model_copy(update={"out": tmp_path / "other.safetensors"})))
    (tmp_path / "empty").mkdir()
    finish(export(request.model_copy(update={"out": tmp_path / "empty"})))
    assert sorted(contents(tmp_path / "empty")) == sorted(FILES)


@pytest.mark.parametrize("failing", ["sync_tree", "rename"])
def test_a_folder_appears_whole_or_not_at_all(failing, store, trained, tmp_path, monkeypatch):
    """The disk is full, or the new folder cannot be put where the old one was."""
    refused, rename = set(), Path.rename

    def full(*_):
        raise OSError(28, "No space left on device")

    def rename_later(path, target):
        if Path(target).name in ("a", "b") and target not in refused:
            refused.add(target)
            full()
        return rename(path, target)

    finish(export(ExportRequest(run=str(trained), out=tmp_path / "a")))
    before = contents(tmp_path / "a")
    train(store, **{"training.seed": 1}).save(tmp_path / "other.safetensors")
    with monkeypatch.context() as patch:
        if failing == "rename":
            patch.setattr(Path, "rename", rename_later)
        else:
            patch.setattr("cross4d_train.export.sync_tree", full)
        for out in ("a", "b"):
            with pytest.raises(OutputError, match="No space left on device"):
                finish(export(ExportRequest(run=str(tmp_path / "other.safetensors"), out=tmp_path / out)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "other.safetensors"]
    assert contents(tmp_path / "a") == before


def test_a_link_to_a_folder_stays_one(trained, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    finish(export(ExportRequest(run=str(trained), out=tmp_path / "link")))
    assert (tmp_path / "link").is_symlink()
    assert sorted(contents(tmp_path / "real")) == sorted(FILES)


def test_nothing_can_be_resumed_from_it(store, trained, exported, tmp_path):
    """Neither in its own folder nor as the checkpoint of a run."""
    where = ("--cache", store, "--device", "cpu", "--epochs", 2, "--frames", 4, "--points", 48, "--size", "tiny", "--batch-size", 8)
    refused = shell("pretrain", "--out", exported, *where)
    assert refused.exit_code == 2
    assert "holds files that are no run: README.md, config.json, model.safetensors" in refused.stderr
    (tmp_path / "run").mkdir()
    shutil.copy(exported / WEIGHTS_FILE, tmp_path / "run" / CHECKPOINT_FILE)
    refused = shell("pretrain", "--out", tmp_path / "run", *where)
    assert refused.exit_code == 2
    assert refused.stderr.count("error:") == 1
    assert "has no state of the optimizer, as students have that `cross4d-train export` wrote" in refused.stderr
    assert "begin a new one with --init" in refused.stderr
    shutil.copy(trained / CHECKPOINT_FILE, tmp_path / "run" / CHECKPOINT_FILE)
    assert shell("pretrain", "--out", tmp_path / "run", *where).exit_code == 0


def test_a_run_begins_with_it(store, trained, exported, tmp_path):
    begun = {}
    for name, place in (("run", trained), ("student", exported)):
        where = ("--cache", store, "--device", "cpu", "--epochs", 1, "--frames", 3, "--points", 48, "--init", place)
        result = shell("pretrain", "--out", tmp_path / name, *where, "--json")
        assert result.exit_code == 0, result.output
        begun[name] = json.loads(result.stdout)
    assert begun["student"]["loss"] == begun["run"]["loss"]
    assert begun["student"]["settings"]["initial"]["sha256"] == sha256_file(exported / WEIGHTS_FILE)


def test_results_are_of_this_student_or_refused(store, trained, results, tmp_path):
    def card_of(*paths):
        finish(export(ExportRequest(run=str(trained), out=tmp_path / "student", results=paths)))
        return (tmp_path / "student" / CARD_FILE).read_text()

    card = card_of(*results.values())
    for path in results.values():
        [result] = read_results(path)
        assert "\n".join(f"    {line}" for line in result.describe().splitlines()) in card
    other = json.loads(results["knn"].read_bytes())
    untrained = shell("knn", "--checkpoint", "random", "--cache", store, "--size", "tiny", "--windows", 1, "--out", tmp_path / "r.json")
    assert untrained.exit_code == 0, untrained.output
    wrong = {
        "seed.json": other | {"training": other["training"] | {"training": other["training"]["training"] | {"seed": 7}}},
        "step.json": other | {"step": 12},
        "store.json": other | {"pretraining": other["pretraining"] | {"fingerprint": "other"}},
    }
    for name, record in wrong.items():
        (tmp_path / name).write_text(json.dumps(record))
    for name, line in {
        "seed.json": "settings.training.seed: 0 here, 7 there",
        "step.json": "step: 1 here, 12 there",
        "store.json": f"store.fingerprint: {other['pretraining']['fingerprint']} here, other there",
        "r.json": "its encoder is untrained",
    }.items():
        with pytest.raises(SettingsError, match="a result of another student") as refused:
            card_of(tmp_path / name)
        assert refused.value.details == (line,)
    for name, data in {"config.json": b"{}", "list.json": b"[1]", "x.npy": b"\x93NUMPY"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SettingsError, match=f"{name} is no result of an evaluation"):
            card_of(tmp_path / name)
    with pytest.raises(SettingsError, match=r"cannot read .*none\.json"):
        card_of(tmp_path / "none.json")


@pytest.mark.parametrize("name", QUICK)
def test_results_are_read_as_what_they_are(name, results):
    [found] = read_results(results[name])
    kind, _ = EVALUATIONS[name]
    assert type(found) is kind.result.__annotations__["return"]
    assert found.unknown == ()
    assert json.loads(found.model_dump_json()) == json.loads(results[name].read_bytes())


def test_of_a_transfer_the_rows_of_this_student_are_taken(store, trained, tmp_path):
    judged = ("--cache", store, "--size", "tiny", "--windows", 1, "--epochs", 1, "--device", "cpu")
    result = shell("transfer", "--checkpoint", trained, "--checkpoint", "random", *judged, "--out", tmp_path / "t.json")
    assert result.exit_code == 0, result.output
    finish(export(ExportRequest(run=str(trained), out=tmp_path / "student", results=(tmp_path / "t.json",))))
    card = (tmp_path / "student" / CARD_FILE).read_text()
    assert (card.count("probe of export0/run"), card.count("probe of random")) == (1, 0)


def test_the_card_has_the_exporters_own_words(trained, tmp_path):
    (tmp_path / "notes.md").write_text("\nIt knows **bodies**, and no rooms.\n")
    finish(export(ExportRequest(run=str(trained), out=tmp_path / "a", notes=tmp_path / "notes.md")))
    card = (tmp_path / "a" / CARD_FILE).read_text()
    assert "\n\n## What it knows, and what not\n\nIt knows **bodies**, and no rooms.\n\n## What it learned from\n\n" in card
    finish(export(ExportRequest(run=str(trained), out=tmp_path / "a")))
    assert "What it knows" not in (tmp_path / "a" / CARD_FILE).read_text()
    with pytest.raises(SettingsError, match=r"nowhere\.md cannot be read: .*\n  expected: a text file\n  next: choose another `notes`"):
        finish(export(ExportRequest(run=str(trained), out=tmp_path / "b", notes=tmp_path / "nowhere.md")))


def test_the_hub_reads_the_card(trained, tmp_path):
    finish(export(ExportRequest(run=str(trained), out=tmp_path / "a", license="apache-2.0")))
    data = ModelCard.load(tmp_path / "a" / CARD_FILE).data
    assert (data.library_name, data.license, data.pipeline_tag) == ("cross4d", "apache-2.0", "feature-extraction")
    assert data.tags == ["cross4d", "point-cloud", "4d", "self-supervised-learning"]
    for license in ("Apache 2.0", "mit\nlanguage: en", ""):
        with pytest.raises(SettingsError, match="license = "):
            finish(export(ExportRequest(run=str(trained), out=tmp_path / "b", license=license)))
    assert not (tmp_path / "b").exists()


def test_what_release_01_wrote_is_exported(tmp_path):
    finish(export(ExportRequest(run=str(GOLDEN / "run_v1"), out=tmp_path / "a")))
    points = body(4, 60)
    np.testing.assert_array_equal(load(tmp_path / "a").features(points), load(GOLDEN / "run_v1").features(points))


def test_what_has_not_finished_or_fits_nothing_is_told(trained, tmp_path):
    checkpoint = load_checkpoint(trained / CHECKPOINT_FILE)
    half = checkpoint.record.model_copy(update={"num_steps": 2})
    replace(checkpoint, record=half).save(tmp_path / "half.safetensors")
    events = list(export(ExportRequest(run=str(tmp_path / "half.safetensors"), out=tmp_path / "a")))
    said = [event.text for event in events if isinstance(event, Remark)]
    assert said == ["note: the run has done 1 of its 2 steps"]
    tensors = {**checkpoint.tensors, "encoder.norm.bias": torch.full((32,), torch.nan)}
    replace(checkpoint, tensors=tensors).save(tmp_path / "nan.safetensors")
    with pytest.raises(CheckpointError, match=r"not finite: norm\.bias"):
        finish(export(ExportRequest(run=str(tmp_path / "nan.safetensors"), out=tmp_path / "b")))
    assert not (tmp_path / "b").exists()


def test_the_command(trained, results, tmp_path):
    done = shell(
        "export", trained, tmp_path / "a", "--results", results["probe"], "--results", results["knn"], "--license", "mit", "--json"
    )
    assert done.exit_code == 0, done.output
    weights = tmp_path / "a" / WEIGHTS_FILE
    assert json.loads(done.stdout) == {
        **{"out": str(tmp_path / "a"), "sha256": sha256_file(weights), "bytes": weights.stat().st_size, "step": 1}
    }
    again = shell("export", trained, tmp_path / "a", "--results", results["probe"])
    assert again.stdout.splitlines()[0] == f"out     {tmp_path / 'a'}"
    wrong = shell("export", trained, tmp_path / "a", "--results", trained / CHECKPOINT_FILE)
    assert (wrong.exit_code, "leave it out of --results" in wrong.stderr) == (2, True)
    with safe_open(weights, framework="pt") as file:
        assert set(file.metadata()) == {"cross4d_checkpoint", "cross4d_checkpoint_sha256"}
    assert re.search(r"## Results\n\n    probe of ", (tmp_path / "a" / CARD_FILE).read_text())
