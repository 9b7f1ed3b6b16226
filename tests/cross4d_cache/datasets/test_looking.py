"""Raw files that cannot be looked at: what passes is waited out, and what stays is not called damaged."""

import errno
from pathlib import Path

import pytest

from cross4d_cache import patience
from cross4d_cache.datasets.looking import look_at
from cross4d_cache.errors import DatasetError
from tests.failing import below, failing


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.0)
    (tmp_path / "frame.ply").write_bytes(b"points")
    return tmp_path / "frame.ply"


def test_an_error_that_passes(file: Path) -> None:
    with failing(errno.ESTALE, below(file.parent, "open", patience.ATTEMPTS - 1)):
        assert look_at(file, file.read_bytes, "fetch it again") == b"points"


@pytest.mark.parametrize(
    ("number", "attempts", "hint"),
    [
        (errno.ESTALE, patience.ATTEMPTS, "look at the disk"),
        (errno.EACCES, 1, "look at the permissions"),
        (errno.ENOENT, 1, "fetch it again"),
    ],
)
def test_an_error_that_stays(file: Path, number: int, attempts: int, hint: str) -> None:
    with failing(number, below(file.parent, "open", 100)) as failed, pytest.raises(DatasetError, match="cannot be read") as caught:
        look_at(file, file.read_bytes, "fetch it again")
    assert str(caught.value.hint).startswith(hint)
    assert failed.total() == attempts
