"""Strays in a store, and errors of reading that pass or stay, under all that looks at stores: none is taken for damage, nothing is lost."""

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from cross4d_cache import patience
from cross4d_cache.errors import CacheCorruptError, Cross4DError
from cross4d_cache.sharing.merge import Merge
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.sharing.subset import Selection, Subset
from cross4d_cache.store import CacheManifest, CacheWriter, mark_damaged, open_cache, verify
from tests.cross4d_cache.store.store_examples import PROJECTION, two_parts
from tests.cross4d_cache.store.test_hostile import read_all
from tests.failing import below, failing
from tests.soak.kills import files

STRAYS = (".DS_Store", "._zarr.json", "Thumbs.db", "desktop.ini", ".nfs0000000000a1b2c300000004", ".~lock.zarr.json#")
ERRORS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EINTR, errno.EMFILE, errno.EACCES)
DAMAGED = "parts/00001/points/c/0/0"
CALLS = ("stat", "lstat", "open", "pread")


@dataclass(kw_only=True)
class Looks:
    """How often each job was run, with how many strays and failed calls; how often errors were waited out, and how often told."""

    rounds: int = 0
    strays: int = 0
    failed_calls: int = 0
    waited_out: int = 0
    told: int = 0


def _read(store: Path, out: Path) -> object:
    return read_all(store)


def _verify(store: Path, out: Path) -> object:
    checks = list(verify(open_cache(store)))
    assert not any(check.problems for check in checks)
    for check in checks:
        if check.unread:
            raise check.unread[0]
    return None


def _resume(store: Path, out: Path) -> object:
    writer = CacheWriter(store, CacheManifest.read(store), PROJECTION)
    list(mark_damaged(writer))
    assert writer.missing() == []
    writer.finish()
    return None


def _renew(store: Path, out: Path) -> object:
    """Of a store of which a part is damaged, just that part is written again."""
    writer = CacheWriter(store, CacheManifest.read(store), PROJECTION)
    list(mark_damaged(writer))
    assert writer.missing() in ([1], [])  # another attempt had replaced it
    if writer.missing():
        writer.commit(1, two_parts()[1])
    writer.finish()
    return store


def _pull(store: Path, out: Path) -> object:
    list(Pull(store, out).run())
    return out


def _merge(store: Path, out: Path) -> object:
    list(Merge(out, [open_cache(store)]).run())
    return out


def _subset(store: Path, out: Path) -> object:
    cache = open_cache(store)
    list(Subset(out, cache, Selection(cache, ids=["sequence 1", "sequence 2"])).run())
    return out


def _pack(store: Path, out: Path) -> object:
    out.mkdir(exist_ok=True)
    list(Pack(open_cache(store), out / "store.zip").run())
    return out


JOBS: dict[str, Callable[[Path, Path], object]] = {
    "read": _read, "verify": _verify, "resume": _resume, "renew": _renew,
    "pull": _pull, "merge": _merge, "subset": _subset, "pack": _pack,
}  # fmt: skip


def soak_looks(store: Path, folder: Path, count: int, seed: int = 0) -> Looks:
    """Run every job `count` times among strays, each time with an error that passes or one that stays for a while."""
    rng, found = np.random.default_rng(seed), Looks()
    with mock.patch.object(patience, "FIRST_WAIT", 0.0):
        for number in range(count):
            for name, job in JOBS.items():
                place = folder / f"{number} {name}"
                _round(job, store, place, rng, found)
                shutil.rmtree(place)
    return found


def _round(job: Callable[[Path, Path], object], pristine: Path, place: Path, rng: np.random.Generator, found: Looks) -> None:
    store = Path(shutil.copytree(pristine, place / "store.zarr"))
    expected = outcome(job(store, place / "expected"))
    victims = [name for name in sorted(files(store)) if name != DAMAGED]
    if job is _renew:
        data = (store / DAMAGED).read_bytes()
        (store / DAMAGED).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    folders = [path for path in (store, *store.rglob("*")) if path.is_dir()]
    for _ in range(int(rng.integers(1, 5))):
        (folders[rng.integers(len(folders))] / STRAYS[rng.integers(len(STRAYS))]).write_bytes(b"stray")
        found.strays += 1
    before, number, call = files(store), ERRORS[rng.integers(len(ERRORS))], CALLS[rng.integers(len(CALLS))]
    lasts, victim = number in patience.REFUSED or rng.random() < 0.5, str(store / victims[rng.integers(len(victims))])
    error: Cross4DError | None = None
    with failing(number, (lambda _, path: path == victim) if lasts else below(store, call, 1 if call == "lstat" else 4)) as failed:
        try:
            result = job(store, place / "out")
        except Cross4DError as caught:
            error = caught
    if error is not None:
        assert lasts, error
        assert not isinstance(error, CacheCorruptError), error
        assert os.strerror(number) in str(error), error
    if job is _renew:
        assert files(store).keys() >= files(pristine).keys()
    else:
        assert files(store) == before
    if error is not None:
        result = job(store, place / "out")
    assert outcome(result) == expected
    found.rounds += 1
    found.failed_calls += failed.total()
    found.told += error is not None
    found.waited_out += bool(failed) and error is None


def outcome(result: object) -> object:
    """What a job found, or the files that it wrote."""
    return {name: data for name, data in files(result).items() if Path(name).name not in STRAYS} if isinstance(result, Path) else result
