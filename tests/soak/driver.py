"""Work that is killed: children forked from a driver (this file as a program) that has done the slow imports and nothing else.

A child is killed as by `kill -9`, either by itself at a given count of what it does to the files below `out`, or by the driver after some
seconds.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
Request = dict[str, Any]
SLOW = (
    "cross4d_cache.build.engines.local",
    "cross4d_cache.datasets",
    "cross4d_cache.datasets.msr_action3d",
    "cross4d_cache.sharing.merge",
    "cross4d_cache.sharing.pack",
    "cross4d_cache.sharing.pull",
    "cross4d_cache.sharing.subset",
    "cross4d_cache.store.storage.web",
    "cross4d_cache.teachers",
    "cross4d_train.loop",
    "cross4d_train.run",
    "transformers.models.auto.modeling_auto",
    "transformers.models.vit.modeling_vit",
)
"""What children would otherwise import, each anew."""


def drive() -> None:
    """The driver: one JSON request a line on stdin, one JSON list of exit codes and file events a line on stdout."""
    import torch

    for module in SLOW:
        importlib.import_module(module)
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        children = [_fork(request) for _ in range(request["workers"])]
        if request["kill_after"] is not None:
            time.sleep(request["kill_after"])
            helpers = [helper for pid, _ in children for helper in children_of(pid)]
            for pid, _ in children:
                os.kill(pid, signal.SIGKILL)  # of one that has ended nothing is left but its exit code
            _await_end(helpers)
        answers = []
        for pid, pipe in children:
            with os.fdopen(pipe) as reader:
                events = reader.read()
            answers.append([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(events or 0)])
        print(json.dumps(answers), flush=True)


def children_of(pid: int) -> list[int]:
    """The processes that one has started and that still run."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def _await_end(pids: list[int]) -> None:
    """Nothing may be left of a job that was killed a few seconds ago."""
    deadline = time.monotonic() + 5
    while any(lives(pid) for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.05)


def lives(pid: int) -> bool:
    """Whether a process still runs."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state) and not state.startswith("Z")


def _fork(request: Request) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    os.close(reader)
    code = 1
    try:
        events = [0] if request["kill_after"] is not None else _count_events(request["out"], request["kill_at"])
        JOBS[request["job"]](request)
        os.write(writer, str(events[0]).encode())
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _count_events(out: str, kill_at: int | None) -> list[int]:
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and out in str(arguments[0]):
            count[0] += 1
            if count[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


def _build(request: Request) -> None:
    from cross4d_cache.build.engines.local import Build
    from cross4d_cache.build.plan import plan_build
    from cross4d_cache.build.request import BuildSettings
    from cross4d_cache.datasets import open_dataset
    from cross4d_cache.teachers import load_teacher

    dataset, teacher = open_dataset("msr_action3d", Path(request["data"])), load_teacher("hf", request["weights"])
    settings = BuildSettings(points_per_frame=50, projection="random:16", batch_frames=8, frames_per_part=9)
    for _ in Build(dataset, teacher, plan_build(dataset, teacher, settings), Path(request["out"])).run():
        pass


def _write(request: Request) -> None:
    from cross4d_cache.store import CacheWriter
    from tests.cross4d_cache.store.store_examples import PROJECTION, make_manifest, two_parts

    writer = CacheWriter(Path(request["out"]), make_manifest(two_parts()), PROJECTION)
    for number in writer.missing():
        writer.commit(number, two_parts()[number])
    writer.finish()


def _merge(request: Request) -> None:
    from cross4d_cache.sharing.merge import Merge
    from cross4d_cache.store import open_cache

    for _ in Merge(Path(request["out"]), [open_cache(store) for store in request["stores"]]).run():
        pass


def _subset(request: Request) -> None:
    from cross4d_cache.sharing.subset import Selection, Subset
    from cross4d_cache.store import open_cache

    cache = open_cache(request["stores"][0])
    ids = [info.id for number, info in enumerate(cache.sequences) if number % 3]
    for _ in Subset(Path(request["out"]), cache, Selection(cache, ids=ids)).run():
        pass


def _derive(request: Request) -> None:
    from cross4d_cache.sharing.derive import derive
    from cross4d_cache.work import finish

    finish(derive(request["stores"][0], Path(request["out"])))


def _pack(request: Request) -> None:
    from cross4d_cache.sharing.pack import Pack
    from cross4d_cache.store import open_cache

    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)
    if (out / "store.zip").exists():
        return
    for _ in Pack(open_cache(request["stores"][0]), out / "store.zip").run():
        pass


def _pull(request: Request) -> None:
    from cross4d_cache.sharing.pull import Pull

    for _ in Pull(request["url"], Path(request["out"])).run():
        pass


def _train(request: Request, num_workers: int = 0) -> None:
    from cross4d_train.clips import ClipSettings
    from cross4d_train.loop import Pretraining, make_fabric
    from cross4d_train.objectives.objective import ObjectiveSettings
    from cross4d_train.run import RunFolder
    from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings

    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        objective=ObjectiveSettings(conditioning="none"),
        clips=ClipSettings(num_frames=2, num_points=16, stride=1),
        training=TrainingSettings(num_epochs=6, batch_size=2),
    )
    folder = RunFolder(Path(request["out"]))
    store, fabric = request["stores"][0], make_fabric("cpu")
    training = Pretraining(store, settings, fabric, num_workers=num_workers, checkpoint=folder.load())
    for _ in folder.record(training, save_every=0.0, keep=2):
        pass


def _train_with_worker(request: Request) -> None:
    _train(request, num_workers=1)


JOBS: dict[str, Callable[[Request], None]] = {
    "build": _build, "write": _write, "merge": _merge, "subset": _subset, "derive": _derive, "pack": _pack,
    "pull": _pull, "train": _train, "train-with-worker": _train_with_worker,
}  # fmt: skip


class Driver:
    """The driver process, seen from the tests; `settings` go into every request."""

    def __init__(self, **settings: object) -> None:
        self._settings = settings
        command = [sys.executable, "-m", "tests.soak.driver"]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, job: str, out: Path, *, kill_at: int | None = None, kill_after: float | None = None, workers: int = 1) -> list[list[int]]:
        """Exit code and number of file events of every worker."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"job": job, "out": str(out), "kill_at": kill_at, "kill_after": kill_after, "workers": workers}
        self._process.stdin.write(json.dumps(self._settings | request) + "\n")
        self._process.stdin.flush()
        return [list(answer) for answer in json.loads(self._process.stdout.readline())]

    def finish(self, job: str, out: Path) -> int:
        """Run to the end; the number of file events."""
        [[code, events]] = self.run(job, out)
        assert code == 0
        return events

    def close(self) -> None:
        """End the driver."""
        self._process.communicate()


if __name__ == "__main__":
    drive()
