"""Full disks and closed pipes at both ends of a command: one message, an exit code, and nothing that was made is lost."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

NO_SPACE = "error: cannot write the result to standard output: No space left on device\n"
COMMAND = [sys.executable, "-c", "from cross4d_cache.cli import main; main()"]


def run(*arguments: str, out: int = subprocess.PIPE, err: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], stdout=out, stderr=err, text=True, timeout=300, check=False)


@pytest.fixture
def full() -> Iterator[int]:
    """A device on which no byte has room."""
    device = os.open("/dev/full", os.O_WRONLY)
    yield device
    os.close(device)


@pytest.fixture
def unread() -> Iterator[int]:
    """A pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("command", [["verify", "--quiet"], ["verify", "--quiet", "--json"], ["--help"]])
def test_a_result_without_room_is_an_error(command: list[str], small_store: Path, full: int) -> None:
    ended = run(*command, *([str(small_store)] if "verify" in command else []), out=full)
    assert (ended.returncode, ended.stderr) == (2, NO_SPACE)


def test_a_reader_that_goes_away_ends_a_command_in_silence(small_store: Path, unread: int) -> None:
    ended = run("verify", "--quiet", str(small_store), out=unread)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("stream", ["full", "unread"])
def test_talk_without_room_ends_no_work(stream: str, small_store: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    ended = run("subset", str(small_store), str(tmp_path / "store.zarr"), "--split", "train", err=request.getfixturevalue(stream))
    assert ended.returncode == 0
    assert "complete" in ended.stdout
    refused = run("verify", str(tmp_path / "nothing"), err=request.getfixturevalue(stream))
    assert refused.returncode == 2


def test_streams_that_were_closed_are_not_asked_for(small_store: Path) -> None:
    shell = 'exec "$@" >&- 2>&-'
    ended = subprocess.run(["sh", "-c", shell, "sh", *COMMAND, "verify", str(small_store)], timeout=300, check=False)
    assert ended.returncode == 0


def test_a_system_without_locks_names_those_that_have_them(tmp_path: Path) -> None:
    code = "import sys; sys.modules['fcntl'] = None; from cross4d_cache.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code, "verify", str(tmp_path)], capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 2
    assert "expected: Linux, macOS, or WSL on Windows" in ended.stderr
    assert "Traceback" not in ended.stderr
