"""No login and no signature in anything that a command prints or writes: every command that takes an address, whatever comes of it."""

import re
import shutil
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cross4d_cache.cli
import cross4d_train.cli.app
from cross4d_cache.errors import Cross4DError, user_errors
from cross4d_cache.redaction import redact
from cross4d_cache.store import CacheManifest, open_cache
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.storage import waiting
from cross4d_cache.store.storage.blobs import FOLDER
from cross4d_train.evaluation.transfer import TransferResult
from tests.servers.liar import Server, honest

USER, PASSWORD, SIGNATURE = "al1ce", "pa55+w0rd", "s1gn4ture"
SECRETS = (USER, PASSWORD, SIGNATURE, b64encode(f"{USER}:{PASSWORD}".encode()).decode())
SMALL = ("--size", "tiny", "--frames", "4", "--points", "64", "--device", "cpu", "--json", "--out", "OUT")
JUDGE = ("--cache", "STORE", "--checkpoint", "random", *SMALL)
COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("STORE",),
    "info --json": ("STORE", "--json"),
    "verify": ("STORE", "--json"),
    "merge": ("STORE", "OUT", "--json"),
    "merge two": ("STORE", "STORE", "OUT"),
    "subset": ("STORE", "OUT", "--split", "train"),
    "subset of none": ("STORE", "OUT", "--action", "STORE"),
    "derive": ("STORE", "OUT", "--json"),
    "pack": ("STORE", "OUT.zip", "--json"),
    "pull": ("STORE", "OUT", "--wait", "0", "--json"),
    "pretrain": ("--cache", "STORE", "--epochs", "1", *SMALL),
    "probe": (*JUDGE, "--epochs", "1", "--windows", "1"),
    "knn": (*JUDGE, "--windows", "1"),
    "finetune": (*JUDGE, "--epochs", "1", "--windows", "1"),
    "segment": (*JUDGE, "--epochs", "1"),
    "segment-actions": (*JUDGE, "--epochs", "1"),
    "robustness": (*JUDGE, "--epochs", "1", "--windows", "1"),
    "correspondence": JUDGE,
    "transfer": (*JUDGE, "--epochs", "1", "--windows", "1"),
}
OF_STAGE_ONE = ("info", "verify", "merge", "subset", "derive", "pack", "pull")
REFUSED = {"down": 2, "login": 2, "missing": 2, "page": 2, "unfinished": None, "damaged": None, "whole": None}
"""What a server may do, and the exit code of every command then, where it is the same."""


@pytest.fixture(scope="module")
def web(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("web")
    for name in ("whole", "unfinished", "damaged"):
        shutil.copytree(store, root / name)
    listing = sha256_bytes(canonical_json([[info.id for info in open_cache(store).sequences]]))  # `verify` wants the right one
    manifest = CacheManifest.read(store)
    manifest.model_copy(update={"plan": manifest.plan.model_copy(update={"sha256": listing})}).write(root / "whole")
    manifest.model_copy(update={"complete": False, "parts": ()}).write(root / "unfinished")
    path = root / "damaged/parts/00000/points/c/0/0"
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    for name in ("login", "page"):
        (root / name).mkdir()
        (root / name / "zarr.json").write_bytes(b"<html>")
    server = Server(root)

    def answer(handler, data, start, stop) -> None:  # type: ignore[no-untyped-def]
        if "/login/" in handler.path:
            handler.give(401, b"")
        elif "/page/" in handler.path:
            handler.give(200, data, Content_Type="text/html")
        else:
            honest(handler, data, start, stop)

    server.answer = answer
    yield server
    server.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str]]:
    monkeypatch.setenv(FOLDER, str(tmp_path / "blobs"))
    monkeypatch.setattr(waiting, "FIRST_WAIT", 0.001)

    def call(command: str, *words: str) -> tuple[int, str]:
        stage = cross4d_cache if command.split()[0] in OF_STAGE_ONE else cross4d_train
        monkeypatch.setattr(sys, "argv", [stage.__name__, command.split()[0], *words])
        with pytest.raises(SystemExit) as stop:
            (stage.cli if stage is cross4d_cache else stage.cli.app).main()
        printed = capfd.readouterr()
        return int(stop.value.code or 0), printed.out + printed.err

    return call


def check_nothing_shown(printed: str, written: Path) -> None:
    letters = re.sub(r"\W", "", printed)  # frames break long words over lines
    for secret in SECRETS:
        assert re.sub(r"\W", "", secret) not in letters
        for path in written.rglob("*"):
            assert secret not in str(path)
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("state", REFUSED)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_a_secret(web: Server, run: Callable[..., tuple[int, str]], tmp_path: Path, command: str, state: str) -> None:
    host = "127.0.0.1:9" if state == "down" else web.url.removeprefix("http://")
    address = f"http://{USER}:{PASSWORD}@{host}/{state}?sig={SIGNATURE}"
    web.asked.clear()
    code, printed = run(command, *(word.replace("STORE", address).replace("OUT", str(tmp_path / "out")) for word in COMMANDS[command]))
    expected = {2} if REFUSED[state] or command == "subset of none" else {0} if state == "whole" else {0, 2}
    assert code in expected, printed
    assert "Traceback" not in printed
    check_nothing_shown(printed, tmp_path)
    if state != "down":
        assert {(SIGNATURE in line, "authorization" in headers) for line, headers in web.asked} == {(True, True)}


def test_what_was_typed_wrongly_is_quoted_without_them(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    address = f"http://{USER}:{PASSWORD}@data.example.org/{'long/' * 20}?sig={SIGNATURE}"
    for words in (
        ("info", "store", address),
        ("merge", address, "store"),
        ("pull", "store", "--wait", address),
        ("probe", "--cache", "store", "--checkpoint", address),
        ("pretrain", "--cache", address, "--epochs", address),
        ("info", address.replace(PASSWORD, "pa55/w0rd")),
        ("info", f"ftp://{USER}:{PASSWORD}@host/x?sig={SIGNATURE}"),
    ):
        code, printed = run(*words)
        assert code == 2, printed
        check_nothing_shown(printed.replace("pa55/w0rd", PASSWORD), tmp_path)


def test_a_traceback_has_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, user_errors():
        raise RuntimeError(f"http://{USER}:{PASSWORD}@host/x?sig={SIGNATURE}")
    printed = capsys.readouterr().err
    assert stop.value.code == 1
    assert "RuntimeError: http://host/x" in printed
    check_nothing_shown(printed, Path("nowhere"))


def test_errors_and_records_made_without_a_command() -> None:
    address = f"https://{USER}:{PASSWORD}@host/x?sig={SIGNATURE}"
    error = Cross4DError(f"{address} is not there", expected=address, hint=f"ask {address}, twice")
    assert str(error) == "https://host/x is not there\n  expected: https://host/x\n  next: ask https://host/x, twice"
    result = TransferResult(checkpoints=("random",), caches=(address,), probes=((),))
    assert result.caches == ("https://host/x",)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:b@h:80/x.zarr?s=1: refused", "http://h:80/x.zarr: refused"),
        ('{"a":"http://a:b@h/x?s=1","b":"https://h:80","c":"d@e"}', '{"a":"http://h/x","b":"https://h:80","c":"d@e"}'),
        ("('http://a:b@h/x?s=1.', 2)", "('http://h/x.', 2)"),
        ("http://a:b@h/c?d=e and https://f:g@i/j?k (m@n)", "http://h/c and https://i/j (m@n)"),
        ("http://a:p@ss@h/x#part", "http://h/x"),
        ("http://a:p/w?x@h/y", "http://h/y"),
        ("http://a:p w@h/y", "http://h/y"),
        ("http://a%40b@h/x@y", "http://h/x@y"),
        ("http:/a:b@h/x", "http:/h/x"),
        ("s3://key:secret@bucket/x", "s3://bucket/x"),
        ("http://[::1]:80/x?y", "http://[::1]:80/x"),
        ("a/b?c of d@e, labels=/home/a@b/c?d", "a/b?c of d@e, labels=/home/a@b/c?d"),
    ],
)
def test_what_is_taken_out_of_a_text(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown
