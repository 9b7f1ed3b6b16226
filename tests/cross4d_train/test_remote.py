"""Training and probing from a store that is served over HTTP, and from a zip."""

import json
from pathlib import Path

from cross4d_cache.sharing.pack import Pack
from cross4d_cache.store import open_cache
from cross4d_cache.store.storage.blobs import FOLDER
from tests.cross4d_train.test_train_cli import run
from tests.servers.liar import Server

SMALL = ("--size", "tiny", "--frames", 4, "--points", 64, "--epochs", 1, "--device", "cpu", "--json")


def test_a_run_does_not_depend_on_where_its_store_lies(store: Path, tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(FOLDER, str(tmp_path / "blobs"))
    list(Pack(open_cache(store), tmp_path / "store.zip").run())
    server = Server(store.parent)
    losses, accuracies = [], []
    places = (store, tmp_path / "store.zip", f"{server.url}/{store.name}")
    for number, place in enumerate(places):
        out = tmp_path / str(number)
        workers = ("--workers", 1) if number == 2 else ()
        result = run("pretrain", "--cache", place, "--out", out, *SMALL, *workers)
        assert result.exit_code == 0, result.output
        losses.append([json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()])
        result = run("knn", "--cache", place, "--checkpoint", out / "checkpoint.safetensors", "--json", "--device", "cpu")
        assert result.exit_code == 0, result.output
        accuracies.append(json.loads(result.stdout)["raw"]["video_accuracy"])
    server.close()
    assert losses[0] == losses[1] == losses[2]
    assert accuracies[0] == accuracies[1] == accuracies[2]
