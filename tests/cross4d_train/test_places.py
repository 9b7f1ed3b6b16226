"""Where a student may lie: every way to name it gives the same student, and nothing but its weights is read."""

import json
import os
import pickle
import pwd
import shutil
import struct
import sys
import zipfile
from base64 import b64encode
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from cross4d_cache.errors import CacheUnreachableError, CheckpointError, SettingsError
from cross4d_cache.store.digest import sha256_bytes, sha256_file
from cross4d_cache.store.storage import waiting
from cross4d_cache.store.storage.blobs import FOLDER
from cross4d_cache.work import finish
from cross4d_train import load
from cross4d_train.checkpoint import CHECKPOINT_FILE
from cross4d_train.export import ExportRequest, export
from cross4d_train.exported import CONFIG_FILE, WEIGHTS_FILE
from cross4d_train.places import checkpoint_at
from tests.cross4d_train.test_features import body, train
from tests.cross4d_train.test_train_cli import run as shell
from tests.servers.cutter import Cutter
from tests.servers.liar import LIES, Server, without_ranges

OWNER, MAIN, TAGGED = "lab/students", "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"


def pack(folder: Path, path: Path, *, below: str = "", packed: bool = False, **more: bytes) -> Path:
    """A zip of a folder's files, below another folder if one is named, with more members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, data in {**{file.name: file.read_bytes() for file in sorted(folder.iterdir())}, **more}.items():
            archive.writestr(below + name, data)
    return path


def publish(folder: Path, hub: Path, commit: str, *refs: str) -> Path:
    """A commit of `OWNER` in a hub cache, as downloading leaves it."""
    repository = hub / ("models--" + OWNER.replace("/", "--"))
    snapshot = repository / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    for ref in refs:
        (repository / "refs" / ref).write_text(commit)
    return snapshot


@pytest.fixture(scope="module")
def places(store, tmp_path_factory):
    """A folder with a run, its export, and zips of it."""
    root = tmp_path_factory.mktemp("places")
    (root / "run").mkdir()
    train(store).save(root / "run" / CHECKPOINT_FILE)
    finish(export(ExportRequest(run=str(root / "run"), out=root / "student")))
    pack(root / "student", root / "flat.zip")
    pack(root / "student", root / "packed.zip", below="student/", packed=True)
    train(store, **{"training.seed": 1}).save(root / "other.safetensors")
    finish(export(ExportRequest(run=str(root / "other.safetensors"), out=root / "other")))
    return root


@pytest.fixture(scope="module")
def features(places):
    return load(places / "run", device="cpu").features(body(5, 60))


@pytest.fixture
def server(places):
    server = Server(places)
    yield server
    server.close()


@pytest.fixture
def hub(places, tmp_path, monkeypatch):
    """A hub cache with two commits, the newer one on main, and no network."""
    publish(places / "student", tmp_path / "hub", TAGGED, "v1")
    publish(places / "other", tmp_path / "hub", MAIN, "main")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where students from elsewhere are kept."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)
    monkeypatch.setenv(waiting.WAIT_MINUTES, "0")
    return tmp_path / "cache" / "students"


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("name", ["run", f"run/{CHECKPOINT_FILE}", "student", f"student/{WEIGHTS_FILE}", "flat.zip", "packed.zip"])
def test_places_on_this_machine(places, features, cache, name):
    for place in (places / name, str(places / name)):
        np.testing.assert_array_equal(load(place, device="cpu").features(body(5, 60)), features)
    sha256 = sha256_file(places / "student" / WEIGHTS_FILE)
    assert kept(cache) == ([f"{sha256}.safetensors"] if name.endswith(".zip") else [])


@pytest.mark.parametrize("answer", [None, without_ranges])
@pytest.mark.parametrize("name", [f"run/{CHECKPOINT_FILE}", f"student/{WEIGHTS_FILE}", "flat.zip", "packed.zip"])
def test_places_behind_a_server(places, features, server, cache, name, answer):
    server.answer = answer or server.answer
    np.testing.assert_array_equal(load(f"{server.url}/{name}", device="cpu").features(body(5, 60)), features)
    of = places / "run" / CHECKPOINT_FILE if name.startswith("run") else places / "student" / WEIGHTS_FILE
    assert kept(cache) == [f"{sha256_file(of)}.safetensors"]


def test_weights_of_a_zip_are_loaded_once(places, server, monkeypatch):
    path = checkpoint_at(f"{server.url}/flat.zip")
    weights = (places / "student" / WEIGHTS_FILE).read_bytes()
    assert path.read_bytes() == weights
    with monkeypatch.context() as patch:
        patch.setattr("cross4d_train.exported.keep", lambda *_: pytest.fail("loaded again"))
        for place in (f"{server.url}/flat.zip", f"{server.url}/packed.zip", places / "packed.zip"):
            assert checkpoint_at(place) == path
    path.write_bytes(weights[:-1])
    assert checkpoint_at(f"{server.url}/packed.zip").read_bytes() == weights, "what was damaged here is loaded again"


def test_a_hash_that_is_told_finds_what_is_here_without_asking(places, server):
    sha256 = sha256_file(places / "student" / WEIGHTS_FILE)
    for name in ("flat.zip", f"student/{WEIGHTS_FILE}"):
        path = checkpoint_at(f"{server.url}/{name}", sha256=sha256)
        server.asked.clear()
        assert checkpoint_at(f"{server.url}/{name}", sha256=sha256) == path
        assert server.asked == []
        path.unlink()


@pytest.mark.parametrize("name", ["run", f"run/{CHECKPOINT_FILE}", "student", "flat.zip", "packed.zip", OWNER + "@v1"])
@pytest.mark.parametrize("served", [False, True])
def test_another_hash_is_refused_everywhere(places, server, hub, cache, name, served):
    """The right one is taken, of the file, wherever it lies."""
    if served and (name in ("run", "student") or name.startswith(OWNER)):
        name = f"run/{CHECKPOINT_FILE}"
    place = name if name.startswith(OWNER) else f"{server.url}/{name}" if served else str(places / name)
    right = sha256_file(places / "run" / CHECKPOINT_FILE if name.startswith("run") else places / "student" / WEIGHTS_FILE)
    assert sha256_file(checkpoint_at(place, sha256=right)) == right
    shutil.rmtree(cache, ignore_errors=True)
    with pytest.raises(CheckpointError, match=f"has the sha256 {right}") as refused:
        load(place, sha256="0" * 64)
    assert refused.value.expected == "0" * 64
    assert kept(cache) == []


def test_the_hash_comes_before_everything_else(tmp_path):
    """Of a file that nobody could read."""
    (tmp_path / "a.safetensors").write_bytes(b"no safetensors at all")
    with pytest.raises(CheckpointError, match="has the sha256"):
        load(tmp_path / "a.safetensors", sha256="0" * 64)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(tmp_path / "a.safetensors", sha256=sha256_bytes(b"no safetensors at all"))
    for wrong in ("0" * 63, "G" * 64, "A" * 64, ""):
        with pytest.raises(SettingsError, match="sha256 = "):
            load(tmp_path / "a.safetensors", sha256=wrong)


@pytest.mark.parametrize("how", ["folder", "zip", "hub"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_weights_are_refused(places, hub, tmp_path, cache, how, damage):
    folder = publish(places / "student", hub, "f" * 40, "broken") if how == "hub" else tmp_path / "copy"
    if how != "hub":
        shutil.copytree(places / "student", folder)
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[:-4] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    place = {"folder": folder, "zip": tmp_path / "copy.zip", "hub": f"{OWNER}@broken"}[how]
    if how == "zip":
        pack(folder, place)
    with pytest.raises(CheckpointError, match="has the sha256") as refused:
        load(place)
    assert refused.value.expected == sha256_bytes(data)
    assert kept(cache) == []


LISTENING: list[list[str]] = []
"""Where the names of all files go that Python opens; a hook of the interpreter stays for good, so there is one."""


@lru_cache
def listen() -> None:
    sys.addaudithook(lambda event, words: LISTENING and event == "open" and LISTENING[-1].append(str(words[0])))


@contextmanager
def opened_files(monkeypatch):
    """The names of the files that are opened within, and of the members of zips."""
    listen()
    opened, open_member = list[str](), zipfile.ZipFile.open
    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "open", lambda zip, info, *rest: opened.append(info.filename) or open_member(zip, info, *rest))
        LISTENING.append(opened)
        try:
            yield opened
        finally:
            LISTENING.pop()


class Marker:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["folder", "zip", "web", "hub"])
def test_nothing_beside_the_weights_is_executed_or_read(places, hub, tmp_path, features, monkeypatch, how):
    mark = tmp_path / "executed"
    pickle.loads(pickle.dumps(Marker(mark)))
    mark.rmdir()
    folder = publish(places / "student", hub, "e" * 40, "evil") if how == "hub" else tmp_path / "evil"
    if how != "hub":
        shutil.copytree(places / "student", folder)
    code = f"import os\nos.mkdir({str(mark)!r})\n"
    for name in ("modeling.py", "config.py", "__init__.py", "sitecustomize.py", "model.py"):
        (folder / name).write_text(code)
    for name in ("pytorch_model.bin", "model.pt", "config.pkl", "model.safetensors.index.json"):
        (folder / name).write_bytes(pickle.dumps(Marker(mark)))
    if how != "folder":  # there it is a run
        shutil.copy(places / "other.safetensors", folder / CHECKPOINT_FILE)
    config = json.loads((folder / CONFIG_FILE).read_bytes())
    planted = {"auto_map": {"AutoModel": "modeling.Model"}, "architectures": ["os.mkdir"], "trust_remote_code": True}
    (folder / CONFIG_FILE).write_text(json.dumps({**config, **planted}))
    place: Path | str = {"folder": folder, "zip": tmp_path / "evil.zip", "web": "evil.zip", "hub": f"{OWNER}@evil"}[how]
    if how in ("zip", "web"):
        pack(folder, tmp_path / "evil.zip", below="evil/")
    server = Server(tmp_path)
    monkeypatch.chdir(folder)
    with opened_files(monkeypatch) as opened:
        student = load(f"{server.url}/{place}" if how == "web" else place, device="cpu")
        np.testing.assert_array_equal(student.features(body(5, 60)), features)
    server.close()
    assert not mark.exists()
    read = {name for name in map(os.path.basename, opened) if (folder / name).exists()}
    assert read == {CONFIG_FILE, WEIGHTS_FILE}


@pytest.mark.parametrize("name", ["../outside.txt", "/absolute.txt", "student/../../outside.txt", "..\\outside.txt"])
def test_names_in_a_zip_are_no_paths(places, tmp_path, cache, name):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    pack(places / "student", inner / "student.zip", **{name: b"planted"})
    before = sorted(path for path in tmp_path.rglob("*"))
    path = checkpoint_at(inner / "student.zip")
    assert sorted(path for path in tmp_path.rglob("*")) == sorted([*before, cache.parent, cache, path])
    assert not Path("/absolute.txt").exists()
    pack(places / "student", inner / "evil.zip", below="../../evil/")
    checkpoint_at(inner / "evil.zip")
    assert sorted(path for path in tmp_path.rglob("*")) == sorted([*before, cache.parent, cache, path, inner / "evil.zip"])


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(CONFIG_FILE, "{}")
        archive.writestr(WEIGHTS_FILE, bytes(10_000_000))
    return path


def test_zips_that_have_no_student_are_refused(places, tmp_path, cache):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / CONFIG_FILE).write_text('{"model_type": "vit"}')
    cases = {
        pack(folder, tmp_path / "config.zip"): "no students in it",
        pack(places / "student", tmp_path / "two.zip", **{f"b/{n}": b"" for n in (CONFIG_FILE, WEIGHTS_FILE)}): "2 students in it",
        bomb(tmp_path / "bomb.zip"): "would unpack to 10000000 bytes",
        tmp_path / "cut.zip": "cannot be read",
        tmp_path / "head.zip": "cannot be read",
    }
    (tmp_path / "cut.zip").write_bytes((places / "flat.zip").read_bytes()[:-30])
    (tmp_path / "head.zip").write_bytes(b"PK\x03\x04")
    (folder / WEIGHTS_FILE).write_bytes(b"x")
    cases[pack(folder, tmp_path / "vit.zip")] = "is not that of an exported student"
    (folder / CONFIG_FILE).write_bytes(b"[" * 2**23)
    cases[pack(folder, tmp_path / "deep.zip")] = "is not that of an exported student"
    flipped = bytearray((places / "packed.zip").read_bytes())
    flipped[len(flipped) // 2] ^= 255
    (tmp_path / "flipped.zip").write_bytes(flipped)
    cases[tmp_path / "flipped.zip"] = "cannot be read|has the sha256"
    encrypted = bytearray((places / "flat.zip").read_bytes())
    at = encrypted.index(b"PK\x01\x02")
    while at >= 0:
        encrypted[at + 8 : at + 10] = struct.pack("<H", 1)
        at = encrypted.find(b"PK\x01\x02", at + 1)
    (tmp_path / "locked.zip").write_bytes(encrypted)
    cases[tmp_path / "locked.zip"] = "is encrypted"
    for path, said in cases.items():
        with pytest.raises(CheckpointError, match=said) as refused:
            load(path)
        assert refused.value.hint
    assert kept(cache) == []


def test_folders_that_have_no_student_are_refused(places, tmp_path):
    for files, said in (
        ((), "neither checkpoint.safetensors nor model.safetensors is there"),
        ((CONFIG_FILE,), "neither checkpoint.safetensors nor model.safetensors is there"),
        ((WEIGHTS_FILE,), "config.json cannot be read: No such file"),
    ):
        folder = tmp_path / f"with {len(files)} {said[:6]} {'-'.join(files)}"
        folder.mkdir()
        for name in files:
            shutil.copy(places / "student" / name, folder)
        with pytest.raises(CheckpointError, match=said):
            load(folder)
    newer = {**json.loads((places / "student" / CONFIG_FILE).read_bytes()), "later": 1, "requires": ["later"]}
    (folder / CONFIG_FILE).write_text(json.dumps(newer))
    with pytest.raises(CheckpointError, match="does not know later"):
        load(folder)
    (folder / CONFIG_FILE).write_text(json.dumps({**newer, "requires": []}))
    assert load(folder).record.unknown == ()


NOTHING = ("limbs", "none.safetensors", "run/checkpoint.safetensors", "./lab/students", "/lab/x", "a/b/c", "x.zip", "a\0b")


@pytest.mark.parametrize("place", NOTHING)
def test_what_is_nothing_says_all_that_was_tried(place, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as refused:
        load(place)
    if "\0" in place:
        assert "cannot be read: embedded null byte" in refused.value.found
        return
    assert refused.value.found == (
        f"there is no student at {place}: no file or folder here, no address, no hub id, and none of this package (bodies)"
    )
    for way in ("folder of a run", "checkpoint file", "`cross4d-train export`", "zip", "https://", "hub id OWNER/NAME"):
        assert way in str(refused.value.expected)


def test_a_place_here_is_never_looked_for_on_the_hub(places, features, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(OWNER, device="cpu").record.settings.training.seed == 1
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    shutil.copytree(places / "student", OWNER)
    np.testing.assert_array_equal(load(OWNER, device="cpu").features(body(5, 60)), features)


@pytest.mark.parametrize(("suffix", "seed"), [("", 1), ("@main", 1), (f"@{MAIN}", 1), ("@v1", 0), (f"@{TAGGED}", 0)])
def test_a_revision_may_be_pinned(hub, suffix, seed):
    assert load(OWNER + suffix, device="cpu").record.settings.training.seed == seed


def test_two_files_are_fetched_from_the_hub(places, monkeypatch):
    asked = {}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda id, **how: asked.update(id=id, **how) or str(places / "student"))
    load(f"{OWNER}@v1", device="cpu")
    assert (asked["id"], asked["revision"], asked["allow_patterns"]) == (OWNER, "v1", [CONFIG_FILE, WEIGHTS_FILE])


@pytest.mark.parametrize("place", [f"{OWNER}@v9", "lab/none", f"{OWNER}@v1@v2"])
def test_what_the_hub_does_not_have_is_refused(hub, place):
    with pytest.raises(
        CheckpointError, match=f"there is no file or folder {place} here, and {place} cannot be fetched from the hub: "
    ) as refused:
        load(place)
    assert f"`hf download {place.partition('@')[0]}` elsewhere and pass the folder" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GatedRepoError, [f"student {OWNER} is gated", f"accept the terms on https://huggingface.co/{OWNER}", "`hf auth login`"]),
        (RepositoryNotFoundError, [f"has no {OWNER}, or a private one", "check the path or the id"]),
    ],
)
def test_what_the_hub_refuses_says_how_to_get_it(error, words, monkeypatch):
    def refuse(*_, **__):
        raise error("403 Client Error", response=Mock())

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(CheckpointError) as refused:
        load(OWNER)
    assert all(word in str(refused.value) for word in words)


def test_the_hub_without_its_client_and_without_a_revision(hub, monkeypatch):
    with pytest.raises(SettingsError, match="names no revision"):
        load(f"{OWNER}@")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        SettingsError, match=f"huggingface_hub, which would look on the hub for {OWNER}, which is not here, cannot be imported"
    ):
        load(OWNER)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", [f"student/{WEIGHTS_FILE}", "flat.zip"])
def test_servers_that_misbehave_give_the_right_bytes_or_nothing(places, server, cache, lie, name):
    server.answer = LIES[lie]
    try:
        path = checkpoint_at(f"{server.url}/{name}")
    except (CacheUnreachableError, CheckpointError):
        assert lie not in ("too_long",)
        assert kept(cache) == []
    else:
        assert lie in ("too_long", "shifted_ranges")
        assert path.read_bytes() == (places / "student" / WEIGHTS_FILE).read_bytes()


def test_what_a_server_has_in_place_of_a_student(places, server, tmp_path):
    (places / "page.zip").write_bytes(b"<html>login</html>")
    (places / "text").write_bytes(b"hello, this is text")
    for name, said in (("none.zip", "there is nothing at .*404"), ("text", "is neither a safetensors file nor a zip")):
        with pytest.raises(CheckpointError, match=said):
            load(f"{server.url}/{name}")

    def page(handler, data, start, stop):
        handler.give(200, data, Content_Type="text/html")

    server.answer = page
    with pytest.raises(CacheUnreachableError, match="answered with a web page") as refused:
        load(f"{server.url}/page.zip")
    assert "hub id" in str(refused.value.expected)
    for address in ("s3://bucket/student.zip", "ftp://host/student.zip", "file:///etc/passwd"):
        with pytest.raises(SettingsError, match="an address that begins with") as unknown:
            load(address)
        assert unknown.value.expected == "one of https, http"


@pytest.mark.parametrize("name", [f"student/{WEIGHTS_FILE}", "packed.zip"])
def test_a_connection_that_is_cut_again_and_again_brings_it_all_the_same(server, features, name):
    cutter = Cutter(server.url, most=20_000)
    np.testing.assert_array_equal(load(f"{cutter.url}/{name}", device="cpu").features(body(5, 60)), features)
    cutter.close()
    assert cutter.cuts > 0


def test_users_without_a_home_are_told_to_name_a_folder(places, server, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", FOLDER):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(SettingsError, match="has no home") as refused:
        load(f"{server.url}/flat.zip")
    assert FOLDER in str(refused.value.hint)


def test_xdg_says_where_students_are_kept(places, tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDER)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert checkpoint_at(places / "flat.zip").parent == tmp_path / "xdg" / "cross4d" / "students"


def test_every_command_takes_every_place(places, store, server, hub, tmp_path):
    places_of = [places / "run", places / "flat.zip", f"{server.url}/packed.zip", f"{OWNER}@v1"]
    judged = ("--cache", store, "--windows", 1, "--json", "--device", "cpu")
    found = [shell("knn", "--checkpoint", place, *judged) for place in places_of]
    assert [outcome.exit_code for outcome in found] == [0, 0, 0, 0], found
    assert len({json.dumps(json.loads(outcome.stdout)["raw"]) for outcome in found}) == 1
    several = [word for place in places_of[2:] for word in ("--checkpoint", place)]
    moved = shell("transfer", *several, *judged, "--epochs", 1)
    assert moved.exit_code == 0, moved.output
    assert json.loads(moved.stdout)["checkpoints"] == [f"{server.url}/packed.zip", f"{OWNER}@v1"]
    where = ("--cache", store, "--device", "cpu")
    for number, place in enumerate((places / "run", places_of[2])):
        out = tmp_path / str(number)
        encoded = shell("encode", "--checkpoint", place, *where, "--limit", 1, "--format", "npy", "--out", out)
        assert encoded.exit_code == 0, encoded.output
        np.testing.assert_array_equal(np.load(out / "s0" / "features.npy"), np.load(tmp_path / "0" / "s0" / "features.npy"))
    begun = shell("pretrain", "--init", f"{OWNER}@v1", *where, "--epochs", 1, "--frames", 3, "--points", 48, "--out", tmp_path / "run")
    assert begun.exit_code == 0, begun.output


@pytest.mark.parametrize("state", ["down", "login", "missing", "page", "whole"])
@pytest.mark.parametrize("command", ["knn", "transfer", "encode", "pretrain", "export"])
def test_no_command_shows_what_is_secret_in_an_address(places, store, server, tmp_path, state, command):
    user, password, signature = "al1ce", "pa55w0rd", "s1gn4ture"
    honest = server.answer

    def answer(handler, data, start, stop):
        if state == "login":
            handler.give(401, b"")
        elif state == "page":
            handler.give(200, b"<html>", Content_Type="text/html")
        else:
            honest(handler, data, start, stop)

    server.answer = answer
    host = "127.0.0.1:9" if state == "down" else server.url.removeprefix("http://")
    name = "none.zip" if state == "missing" else "flat.zip"
    address = f"http://{user}:{password}@{host}/{name}?sig={signature}"
    out = tmp_path / "out"
    words = {
        "knn": ("--checkpoint", address, "--cache", store, "--windows", 1, "--device", "cpu", "--out", out),
        "transfer": ("--checkpoint", address, "--cache", store, "--windows", 1, "--epochs", 1, "--device", "cpu", "--out", out, "--json"),
        "encode": ("--checkpoint", address, "--cache", store, "--limit", 1, "--device", "cpu", "--out", out),
        "pretrain": ("--init", address, "--cache", store, "--epochs", 1, "--frames", 3, "--points", 48, "--device", "cpu", "--out", out),
        "export": (address, out),
    }
    done = shell(command, *words[command])
    assert done.exit_code == (0 if state == "whole" else 2), done.output
    written = [path for path in (out, *out.rglob("*")) if path.is_file()]
    assert bool(written) == (state == "whole")
    for secret in (user, password, signature, b64encode(f"{user}:{password}".encode()).decode()):
        assert secret not in done.output
        assert not any(secret.encode() in path.read_bytes() for path in written)
    if state != "down":
        assert {(signature in line, "authorization" in headers) for line, headers in server.asked} == {(True, True)}
