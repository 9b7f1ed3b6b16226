"""Servers that are away or crowded: waited for as they ask, as long as was said, no longer. The clock is the test's own."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path
from time import sleep, time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cross4d_cache.errors import CacheCorruptError, CacheUnreachableError, SettingsError
from cross4d_cache.sharing import pull as pull_module
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import open_cache
from cross4d_cache.store.manifest import PartRecord
from cross4d_cache.store.part_reader import PartFiles
from cross4d_cache.store.storage import Storage, waiting
from cross4d_cache.store.storage.blobs import FOLDER
from cross4d_cache.store.storage.source import CONNECTIONS
from cross4d_cache.store.storage.waiting import WAIT_MINUTES, AgainError, Patience
from cross4d_cache.store.storage.web import WebSource
from tests.cross4d_cache.store.store_examples import two_parts, write_store
from tests.servers.liar import Handler, Server, errors, honest, shifted_ranges

FRAMES = np.arange(2)


class Clock:
    """Time that passes while somebody waits and at no other time; `when` is called as it does."""

    def __init__(self) -> None:
        self.now, self.waits, self.when = 0.0, list[float](), lambda: None

    def pause(self, seconds: float, stops: int) -> bool:
        self.now += seconds
        self.waits.append(seconds)
        self.when()
        return True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(Patience, "_pause", clock.pause)
    monkeypatch.setenv(FOLDER, str(tmp_path / "blobs"))
    monkeypatch.delenv(WAIT_MINUTES, raising=False)
    return clock


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("served") / "store.zarr", two_parts())


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    server = Server(store.parent)
    yield server
    server.close()


def stream(url: str) -> object:
    return open_cache(url).read_clip(0, FRAMES)


def pull(url: str, out: Path) -> object:
    return list(Pull(url, out).run())


def busy_until(clock: Clock, end: float, status: int, **headers: str) -> Callable[[Handler, bytes, int, int | None], None]:
    def answer(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        if clock.now < end:
            handler.give(status, b"later", **headers)
        else:
            honest(handler, data, start, stop)

    return answer


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("said", ["40", "date"])
def test_a_server_is_asked_again_when_it_said(server: Server, clock: Clock, status: int, said: str) -> None:
    server.answer = busy_until(clock, 39, status, Retry_After=said if said.isdecimal() else formatdate(time() + 40, usegmt=True))
    stream(f"{server.url}/store.zarr")
    assert clock.waits[0] == pytest.approx(40, abs=1.5)  # dates have whole seconds
    assert len(clock.waits) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("command", ["stream", "pull"])
def test_minutes_of_absence_are_waited_out(server: Server, clock: Clock, tmp_path: Path, status: int, command: str) -> None:
    server.answer = busy_until(clock, 300, status)
    url = f"{server.url}/store.zarr"
    stream(url) if command == "stream" else pull(url, tmp_path / "out")
    assert clock.now >= 300
    assert max(clock.waits) <= waiting.LONGEST_WAIT


def test_a_server_that_is_stopped_and_started_again(server: Server, store: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """A reset, then nobody at that port, then the same server: a run that reads goes on, and says twice what it is about."""
    cache, later = open_cache(f"{server.url}/store.zarr"), list[Server]()

    def hang_up(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        handler.close_connection = True
        raise ConnectionResetError

    def start_again() -> None:
        if len(clock.waits) == 1:
            server.close()
        if clock.now > 120 and not later:
            later.append(Server(store.parent, server.server_address[1]))

    server.answer, clock.when = hang_up, start_again
    cache.read_clip(0, FRAMES)
    later[0].close()
    assert [record.getMessage() for record in caplog.records] == [
        f"note: {server.url}/store.zarr: connection refused; waiting for it, up to 10 minutes (CROSS4D_WAIT_MINUTES)",
        f"note: {server.url}/store.zarr answers again",
    ]


@pytest.mark.parametrize("minutes", ["0.5", "3"])
def test_it_is_waited_for_as_long_as_was_said(server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch, minutes: str) -> None:
    monkeypatch.setenv(WAIT_MINUTES, minutes)
    server.answer = errors
    with pytest.raises(CacheUnreachableError, match="503 Service Unavailable"):
        stream(f"{server.url}/store.zarr")
    assert float(minutes) * 60 <= clock.now <= float(minutes) * 60 + waiting.LONGEST_WAIT


def test_a_pull_may_be_told_too(server: Server, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "60")
    server.answer = errors
    with pytest.raises(CacheUnreachableError):
        Pull(f"{server.url}/store.zarr", tmp_path / "out", wait_minutes=1.0)
    assert 60 <= clock.now <= 60 + waiting.LONGEST_WAIT


def test_a_server_that_asks_for_more_time_than_was_said_is_not_asked_in_vain(server: Server, clock: Clock) -> None:
    server.answer = busy_until(clock, 10**9, 429, Retry_After="3600")
    with pytest.raises(CacheUnreachableError, match="asks for another 3600 seconds"):
        stream(f"{server.url}/store.zarr")
    assert clock.waits == []


def test_a_server_that_never_answered_is_given_up_soon_unless_one_is_to_wait(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CacheUnreachableError, match="connection refused"):
        open_cache("http://127.0.0.1:9/store.zarr")
    assert clock.now < 10
    clock.now = 0.0
    monkeypatch.setenv(WAIT_MINUTES, "2")
    with pytest.raises(CacheUnreachableError, match="connection refused"):
        open_cache("http://127.0.0.1:9/store.zarr")
    assert clock.now >= 120


def test_a_broken_server_is_no_absent_one(server: Server, clock: Clock) -> None:
    """500 may well stay, and so may ranges that are not those asked for."""
    cache = open_cache(f"{server.url}/store.zarr")
    for answer in (busy_until(clock, 10**9, 500), shifted_ranges):
        clock.now, server.answer, server.of = 0.0, answer, "/c/"
        with pytest.raises(CacheUnreachableError):
            cache.read_clip(0, FRAMES)
        assert clock.now < 120  # of all threads together


@pytest.mark.parametrize("said", ["soon", "-1", "nan", "1e99"])
def test_minutes_that_are_none(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_MINUTES, said)
    with pytest.raises(SettingsError, match=WAIT_MINUTES):
        open_cache("http://127.0.0.1:9/store.zarr")


def test_a_crowded_server_gets_half_as_many_requests_at_a_time(clock: Clock) -> None:
    server, crowded = Patience("somewhere"), AgainError("429", crowded=True)
    for _ in range(CONNECTIONS):  # all of them were under way
        server.sleep(1.0, crowded, 0)
        clock.now = 0.0
    begun = threading.Event()
    with ExitStack() as turns:
        for _ in range(CONNECTIONS // 2):
            turns.enter_context(server.turn(0))

        def one_more() -> None:
            with server.turn(0):
                begun.set()

        thread = threading.Thread(target=one_more)
        thread.start()
        assert not begun.wait(0.05)
    thread.join()
    for _ in range(CONNECTIONS * waiting.RECOVERY):
        server.answered(well=True)
    with ExitStack() as turns:
        assert all(turns.enter_context(server.turn(0)) for _ in range(CONNECTIONS))


def test_nobody_waits_for_what_was_stopped(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file is damaged while others wait for minutes: the pull ends at once."""
    monkeypatch.undo()
    under_way, told = threading.Event(), threading.Event()

    def answer(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        if "patch_slot/c" in handler.path:
            assert under_way.wait(20)
            handler.give(503, b"", Retry_After="300")
            told.set()
        elif "points/c" in handler.path:
            under_way.set()
            assert told.wait(20)
            handler.give(404, b"")
        else:
            honest(handler, data, start, stop)

    server.answer = answer
    with pytest.raises(CacheCorruptError, match="points"):
        pull(f"{server.url}/store.zarr", tmp_path / "out")


def test_what_asks_for_more_parts_hears_of_what_is_damaged(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of the second part is asked for when the server already wants to be left alone for minutes, and a file is missing."""
    monkeypatch.undo()
    under_way, wanted_peace, asked = threading.Event(), threading.Event(), threading.Event()

    def answer(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        if "patch_slot/c" in handler.path:
            assert under_way.wait(20)  # what is asked for after this answer waits, and rightly
            handler.give(503, b"", Retry_After="300")
        elif "points/c" in handler.path:
            under_way.set()
            assert asked.wait(20)
            handler.give(404, b"")
        else:
            honest(handler, data, start, stop)

    def sleep_and_tell(self: Patience, *arguments: Any) -> bool:
        wanted_peace.set()
        return slept(self, *arguments)

    class Files(PartFiles):
        def __init__(self, storage: Storage, record: PartRecord) -> None:
            if record.name == "00001":
                assert wanted_peace.wait(20)
                threading.Timer(0.2, asked.set).start()
            super().__init__(storage, record)

    slept = Patience.sleep
    monkeypatch.setattr(Patience, "sleep", sleep_and_tell)
    monkeypatch.setattr(pull_module, "PartFiles", Files)
    server.answer = answer
    began = time()
    with pytest.raises(CacheCorruptError, match="points"):
        pull(f"{server.url}/store.zarr", tmp_path / "out")
    assert time() - began < 100


def test_one_error_among_many_requests_ends_the_others(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is missing while another is waited for: whoever reads hears of it, and no thread keeps the process."""
    monkeypatch.undo()
    storage, began = Storage(WebSource(f"{server.url}/store.zarr", minutes=10.0)), time()

    def work(number: int) -> None:
        if number:
            raise CacheCorruptError("a chunk is missing")
        storage.source._patience.trial().failed(AgainError("it is away", retry_after=300.0), "a file")

    with pytest.raises(CacheCorruptError, match="a chunk is missing"):
        storage.map(work, [0, 1])
    storage._threads.shutdown()
    assert time() - began < 100


def test_what_begins_to_wait_just_after_a_stop_is_stopped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    source, stopped_once = WebSource("http://127.0.0.1:9/store.zarr", minutes=10.0), threading.Event()
    stop = source.stop

    def stop_and_tell() -> None:
        stop()
        stopped_once.set()

    def work() -> None:
        assert stopped_once.wait(20)
        source._patience.trial().failed(AgainError("it is away", retry_after=300.0), "a file")

    monkeypatch.setattr(source, "stop", stop_and_tell)
    with ThreadPoolExecutor(1) as threads:
        futures = [threads.submit(work), threads.submit(work)]
        while not futures[0].running():
            sleep(0.01)
        source.end(futures)
    assert "no longer waited for" in str(futures[0].exception())
    assert futures[1].cancelled()
