"""Processes that work for this one and end with it, however it ends.

A worker is a program of its own, no copy of its parent: it imports what its work needs, for sequences and clips not even torch.
Requests reach it on stdin, which the kernel closes when the parent is gone, and answers leave on stdout. So nothing needs shared memory,
and a worker that is killed in the middle of an answer ends its own pipe and nobody else's.
"""

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import cycle
from queue import Empty, SimpleQueue
from typing import IO, Any, Generic, TypeVar

from cross4d_cache.errors import Cross4DError, WorkerError
from cross4d_cache.store.storage.waiting import waiting_minutes

Request = TypeVar("Request")
Answer = TypeVar("Answer")

AHEAD = 2
"""Answers of each worker that are made before they are asked for."""

PATIENCE = 3600
"""Seconds after which a worker that gives no answer counts as stuck, beyond those that it waits for a server: reading may be slow."""

_ENDING = 5
"""Seconds in which a worker that is told to end does so."""

_PIPE_BYTES = 2**18
"""Bytes that may wait in the pipe of answers where the system allows it: each time that it is empty, a thread of this process waits."""

_HEARD_BY_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Terminals and schedulers signal all processes of a job; what becomes of the job is its parent's matter."""


def usable_cores() -> int:
    """Cores that this process may run on: a scheduler may give a job a few of a large machine's."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has none
        return os.cpu_count() or 1


class Workers(Generic[Request, Answer]):
    """`count` processes that do `work`, a picklable function of one request.

    They live as long as this object, and no longer than this process, whatever ends it. They inherit open files: their descriptors.

    Raises:
        WorkerError: no process can be started.
    """

    def __init__(self, work: Callable[[Request], Any], count: int, receive: Callable[[Any], Answer], inherited: Sequence[int] = ()) -> None:
        self._workers = [_Worker(receive, inherited) for _ in range(count)]
        for worker in self._workers:
            worker.ask(work)

    def map(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """The answers to all requests, in their order; some are made ahead. One call at a time.

        `receive` is applied to each in a thread of this process.

        Raises:
            Cross4DError: the work raised it.
            WorkerError: a worker was killed, or gives no answer.
        """
        asked = deque[_Worker[Answer]]()
        try:
            for request, worker in zip(requests, cycle(self._workers), strict=False):
                worker.ask(request)
                asked.append(worker)
                if len(asked) == AHEAD * len(self._workers):
                    yield asked.popleft().answer()
            while asked:
                yield asked.popleft().answer()
        finally:
            for worker in asked:  # nobody wants these any more
                worker.num_unwanted += 1


class _Worker(Generic[Answer]):
    """One process, with a thread that reads its answers while this process computes."""

    def __init__(self, receive: Callable[[Any], Answer], inherited: Sequence[int]) -> None:
        self.num_unwanted = 0
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from cross4d_cache.workers import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=inherited,
                env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            )
        except OSError as error:
            raise WorkerError(
                f"cannot start a worker process: {error.strerror}",
                expected="a machine, container or job that allows one more process, with the files it opens",
                hint="use fewer `num_workers`, or raise the limit (`ulimit -n` for open files, `ulimit -u` for processes)",
            ) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError, AttributeError):
            fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # Linux alone has it
        self._requests = self._process.stdin
        self._arrived: SimpleQueue[Answer | Exception] = SimpleQueue()
        reader = threading.Thread(target=_read_answers, args=(self._process.stdout, receive, self._arrived), daemon=True)
        weakref.finalize(self, _end, self._process, reader)
        reader.start()

    def ask(self, request: object) -> None:
        data = pickle.dumps(request, protocol=5)
        with suppress(BrokenPipeError):  # it is gone, which its answer will tell
            self._requests.write(len(data).to_bytes(8, "little") + data)
            self._requests.flush()

    def answer(self) -> Answer:
        while self.num_unwanted:
            self._next()
            self.num_unwanted -= 1
        answer = self._next()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _next(self) -> Answer | Exception:
        patience = PATIENCE + round(60 * waiting_minutes())
        for _ in range(patience):  # by the second: a job that is suspended for hours has waited for one
            with suppress(Empty):
                answer = self._arrived.get(timeout=1)
                if isinstance(answer, EOFError):
                    self._arrived.put(answer)  # nothing else will ever come
                    raise self._death()
                return answer
        raise WorkerError(
            f"a worker process (pid {self._process.pid}) has given no answer for {patience // 60} minutes, though it lives",
            expected="storage that answers",
            hint="look whether the disk or server of the data hangs, then run the same command again",
        )

    def _death(self) -> WorkerError:
        code = self._process.wait(_ENDING)
        if code == -signal.SIGKILL:
            return _out_of_memory(f"a worker process (pid {self._process.pid}) was killed, most likely because memory ran out")
        return WorkerError(
            f"a worker process (pid {self._process.pid}) ended with {'exit code' if code >= 0 else 'signal'} {abs(code)}",
            expected="it lives as long as the command",
            hint="see what it said above, or use `num_workers` 0, which does its work in the main process",
        )


def _out_of_memory(found: str) -> WorkerError:
    return WorkerError(
        found,
        expected="memory for all worker processes; a container or job may have less than its machine",
        hint="use fewer `num_workers`, or more memory; then run the same command again",
    )


def _read_answers(stream: IO[bytes], receive: Callable[[Any], Answer], arrived: "SimpleQueue[Answer | Exception]") -> None:
    with stream:
        try:
            while True:
                answer = pickle.load(stream)
                arrived.put(answer if isinstance(answer, Exception) else receive(answer))
        except (EOFError, pickle.UnpicklingError):  # before or in the middle of an answer
            pass
        except Exception as error:
            arrived.put(error)
    arrived.put(EOFError())


def _end(process: subprocess.Popen[bytes], reader: threading.Thread) -> None:
    with suppress(BrokenPipeError):
        process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
    for again in (True, False):
        try:
            process.wait(_ENDING)
            break
        except subprocess.TimeoutExpired:
            if again:
                process.kill()
    reader.join(_ENDING)


def serve() -> None:
    """What a worker process does: the first message is the work, every other one a request; it ends where they end."""
    for number in _HEARD_BY_PARENT:
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    messages: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_listen, args=(messages,), daemon=True).start()
    work = pickle.loads(messages.get())
    while True:
        pickle.dump(_try(work, pickle.loads(messages.get())), answers, protocol=5)
        answers.flush()


def _listen(messages: "SimpleQueue[bytes]") -> None:
    """Take messages in, so that the parent never waits for that; end the process at once when the parent is gone."""
    stream = sys.stdin.buffer
    while len(size := stream.read(8)) == 8:
        messages.put(stream.read(int.from_bytes(size, "little")))
    os._exit(0)


def _try(work: Callable[[Any], object], request: object) -> object:
    try:
        return work(request)
    except Cross4DError as error:
        return error
    except MemoryError:
        return _out_of_memory("a worker process got no more memory")
    except Exception:
        return RuntimeError(f"in a worker process:\n{traceback.format_exc()}")
