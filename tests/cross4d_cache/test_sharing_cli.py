"""The commands that hand stores on, as a user types them."""

import errno
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cross4d_cache.cli import app
from cross4d_cache.errors import Cross4DError
from cross4d_cache.store import mark_damaged, open_cache
from tests.cross4d_cache.store.forgery import edit_json, edit_manifest, forge_part
from tests.failing import below, failing
from tests.servers.liar import Server


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def result_of(*words: object) -> dict:
    done = run(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.stdout)


def refused(*words: object) -> str:
    done = run(*words)
    assert isinstance(done.exception, Cross4DError), done.exception
    return str(done.exception)


@pytest.fixture
def store(small_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_store, tmp_path / "store.zarr"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_cut_merge_pack_pull_and_build_again(store: Path, tmp_path: Path, msr_folder: Path, tiny_vit: Path) -> None:
    train = result_of("subset", store, tmp_path / "train.zarr", "--split", "train")
    test = result_of("subset", store, tmp_path / "test.zarr", "--split", "test")
    assert train["sequences"] + test["sequences"] == 6
    assert test["splits"]["cross-subject"] == {"test": test["sequences"]}
    merged = result_of("merge", tmp_path / "train.zarr", tmp_path / "test.zarr", tmp_path / "merged.zarr")
    assert merged["frames"] == open_cache(store).manifest.plan.num_frames
    packed = result_of("pack", tmp_path / "merged.zarr", tmp_path / "merged.zip")
    assert packed["bytes"] == (tmp_path / "merged.zip").stat().st_size
    assert result_of("verify", tmp_path / "merged.zip")["intact"]
    server = Server(tmp_path)
    pulled = result_of("pull", f"{server.url}/merged.zip", tmp_path / "pulled.zarr")
    server.close()
    assert pulled["checksum"] == merged["checksum"]
    assert files(tmp_path / "pulled.zarr") == files(tmp_path / "merged.zarr")


def test_info_of_any_place(store: Path, tmp_path: Path) -> None:
    result_of("pack", store, tmp_path / "store.zip")
    server = Server(tmp_path)
    found = [result_of("info", place) for place in (store, tmp_path / "store.zip", f"{server.url}/store.zarr", f"{server.url}/store.zip")]
    server.close()
    for record in found:
        record.pop("store")
    assert all(record == found[0] for record in found)
    assert found[0]["splits"] == {"cross-subject": {"train": 5, "test": 1}, "development": {"train": 3, "test": 2, "neither": 1}}
    assert found[0]["frames_per_sequence"] == {"least": 3, "median": 6, "most": 9}


def test_info_draws_and_shows_bars(store: Path, tmp_path: Path) -> None:
    done = run("info", store, "--png", tmp_path / "store.png")
    assert done.exit_code == 0
    assert "#" * 50 in done.stdout
    assert (tmp_path / "store.png").read_bytes()[:4] == b"\x89PNG"
    assert "cannot write" in refused("info", store, "--png", tmp_path / "nowhere" / "store.png")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_verify_names_what_is_damaged_and_build_makes_just_that_anew(store: Path, msr_folder: Path, tiny_vit: Path) -> None:
    before = files(store)
    flip(store / "parts/00001/features/c/0/0")
    (store / "parts/00002/boxes/c/0/0/0").unlink()
    flip(store / "projection/c/0/0")
    done = run("verify", store, "--json")
    record = json.loads(done.stdout)
    assert (record["intact"], record["damaged"]) == (False, ["00001", "00002", "projection"])
    assert "run the command that made it again (build," in str(done.exception)
    assert "00001/features/c/0/0" in str(done.exception)
    untouched = (store / "parts/00000/points/c/0/0").stat().st_mtime_ns
    source = ("--dataset", "msr_action3d", "--data", msr_folder, "--teacher", "hf", "--weights", tiny_vit)
    settings = ("--points", 100, "--views", 2, "--project", "random:16", "--batch-size", 8, "--device", "cpu", "--out", store)
    # The fixture's parts are smaller than the command's, so its plan is another; the check is that of the same class.
    assert "built with other settings" in refused("build", *source, *settings)
    from cross4d_cache.build.engines.local import Build
    from cross4d_cache.build.plan import plan_build
    from cross4d_cache.build.request import BuildSettings
    from cross4d_cache.datasets import open_dataset
    from cross4d_cache.teachers import load_teacher

    dataset, teacher = open_dataset("msr_action3d", msr_folder), load_teacher("hf", str(tiny_vit))
    chosen = BuildSettings(points_per_frame=100, views=2, projection="random:16", batch_frames=8, frames_per_part=9)
    build = Build(dataset, teacher, plan_build(dataset, teacher, chosen), store)
    assert build.writer.complete
    list(mark_damaged(build.writer))
    list(build.run())
    lengths = [sum(info.num_frames for info in part) for part in build.plan.parts]
    assert build.progress.frames_built == lengths[1] + lengths[2]
    assert files(store) == before
    assert (store / "parts/00000/points/c/0/0").stat().st_mtime_ns == untouched


def test_build_of_a_finished_store_mends_it(tmp_path: Path, msr_folder: Path, tiny_vit: Path) -> None:
    words = ("build", "--dataset", "msr_action3d", "--data", msr_folder, "--teacher", "hf", "--weights", tiny_vit, "--points", 60)
    words = (*words, "--batch-size", 8, "--device", "cpu", "--out", tmp_path / "store")
    result_of(*words)
    before = files(tmp_path / "store")
    assert result_of(*words)["frames_built"] == 0
    flip(tmp_path / "store/parts/00000/points/c/0/0")
    flip(tmp_path / "store/index.json")
    assert result_of(*words)["frames_built"] == 35
    assert files(tmp_path / "store") == before


def test_build_takes_neither_a_stray_nor_a_passing_error_for_damage(tmp_path: Path, msr_folder: Path, tiny_vit: Path) -> None:
    store = tmp_path / "store"
    words = ("build", "--dataset", "msr_action3d", "--data", msr_folder, "--teacher", "hf", "--weights", tiny_vit, "--points", 60)
    words = (*words, "--batch-size", 8, "--device", "cpu", "--out", store)
    result_of(*words)
    for name in ("parts/00000/.DS_Store", "parts/00000/points/._zarr.json", ".nfs0001"):
        (store / name).write_bytes(b"stray")
    before = files(store)
    with failing(errno.ESTALE, below(store, "open", 1)) as failed:
        assert result_of(*words)["frames_built"] == 0
    assert failed
    denied = str(store / "parts/00000/points/c/0/0")
    with failing(errno.EACCES, lambda call, path: path == denied):
        said = refused(*words)
    assert "could not be read: Permission denied" in said
    assert "nothing was changed" in said
    assert files(store) == before


def test_a_damaged_zip_cannot_be_mended_in_place(store: Path, tmp_path: Path) -> None:
    result_of("pack", store, tmp_path / "store.zip")
    data = bytearray((tmp_path / "store.zip").read_bytes())
    data[data.index(b"\x28\xb5\x2f\xfd") + 8] ^= 1
    (tmp_path / "store.zip").write_bytes(data)
    assert "cannot be fixed in place" in refused("verify", tmp_path / "store.zip")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "STORE", "nowhere", "OUT"], "there is no store"),
        (["subset", "STORE", "OUT", "--split", "dev"], "unknown split 'dev'"),
        (["subset", "STORE", "OUT", "--split", "unsplit"], "no sequence meets"),
        (["subset", "STORE", "OUT", "--action", "dance"], "no sequence has action 'dance'"),
        (["subset", "STORE", "OUT", "--sequences", "none.txt"], "cannot be read"),
        (["derive", "STORE", "OUT", "--correspondence", "random"], "cannot be derived"),
        (["derive", "s3://bucket/x/store", "s3://bucket/x"], "a place on this machine"),
        (["pack", "STORE", "store.tar"], "ends in .zip"),
        (["pull", "ftp://host/store", "OUT"], "an address"),
        (["pull", "http://127.0.0.1:9/store", "OUT"], "cannot be had"),
        (["verify", "http://127.0.0.1:9/store"], "cannot be had"),
        (["subset", "STORE", "OUT", "--protocol", "cross-subject"], "`protocol` without a `split` of it"),
        (["subset", "STORE", "OUT", "--protocol", "cross-subject", "--split", "all"], "`protocol` without a `split` of it"),
        (["info", "STORE", "--data", "STORE"], "without --fidelity, where it says nothing"),
        (["info", "STORE", "--option", "axes=x,y,z"], "without --fidelity, where it says nothing"),
        (["info", "STORE", "--dataset", "lab:Reader"], "without --fidelity, where it says nothing"),
        (["info", "STORE", "--fidelity", "--read-all"], "--read-all with --fidelity, where it says nothing"),
        (["info", "STORE/parts"], "not a Cross4D store"),
        (["info", "http://[::1"], "cannot be read"),
        (["merge", "STORE", "s3://bucket/x"], "a place on this machine"),
        (["subset", "STORE", "s3://bucket/x"], "a place on this machine"),
        (["pack", "STORE", "https://host/x.zip"], "a place on this machine"),
        (["pull", "STORE", "s3://bucket/x"], "a place on this machine"),
        (["build", "--out", "s3://bucket/x"], "a place on this machine"),
    ],
)
def test_what_a_user_can_mend(store: Path, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cross4d_cache.store.storage import waiting

    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)
    places = {"OUT": str(tmp_path / "out"), "STORE": str(store)}
    filled = [word.replace("STORE", places["STORE"]).replace("OUT", places["OUT"]) for word in words]
    assert message in refused(*filled)
    assert not (tmp_path / "out").exists()


def test_merge_subset_and_derive_mend_what_they_made(store: Path, tmp_path: Path) -> None:
    """Not only what is missing: of a finished store, what is damaged."""
    out, cut, control = (tmp_path / name for name in ("out", "cut", "control"))
    for place, words in (
        (out, ("merge", store, out)),
        (cut, ("subset", store, cut, "--split", "train")),
        (control, ("derive", store, control)),
    ):
        result_of(*words)
        before = files(place)
        for name in ("parts/00000/features/c/0/0", "index.json", "projection/c/0/0"):
            data = bytearray((place / name).read_bytes())
            (place / name).unlink()  # a link
            data[len(data) // 2] ^= 1
            (place / name).write_bytes(data)
        result_of(*words)
        assert files(place) == before


def test_derive_says_what_the_control_is(store: Path, tmp_path: Path) -> None:
    found = result_of("derive", store, tmp_path / "control.zarr", "--correspondence", "shuffled")
    assert (found["state"], found["correspondence"]) == ("complete", "shuffled")
    assert found["fingerprint"] != open_cache(store).manifest.fingerprint


def test_a_fitted_projection_that_is_damaged_is_fitted_again(tmp_path: Path, msr_folder: Path, tiny_vit: Path) -> None:
    words = ("build", "--dataset", "msr_action3d", "--data", msr_folder, "--teacher", "hf", "--weights", tiny_vit, "--points", 60)
    words = (*words, "--batch-size", 8, "--project", "pca:4", "--device", "cpu", "--out", tmp_path / "store")
    result_of(*words)
    before = files(tmp_path / "store")
    flip(tmp_path / "store/projection/c/0/0")
    assert result_of(*words)["frames_built"] == 0
    assert files(tmp_path / "store") == before


def test_pictures_of_strange_names_and_of_nothing(store: Path, tmp_path: Path) -> None:
    def change(record: dict) -> None:
        record["attributes"]["cross4d_part"]["sequences"]["id"][0] = r"a$\x0$"

    edit_json(store / "parts/00000/zarr.json", change)
    forge_part(store)
    assert run("info", store, "--png", tmp_path / "strange.png").exit_code == 0
    edit_manifest(store, lambda record: record.update(complete=False, parts=[]))
    shutil.rmtree(store / "parts")
    (store / "parts").mkdir()
    assert run("info", store, "--png", tmp_path / "nothing.png").exit_code == 0
    assert (tmp_path / "nothing.png").exists()
