"""Trainings with loader processes: nothing of them is left, and they need neither torch nor shared memory."""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cross4d_cache.workers import Workers
from tests.soak.driver import children_of, lives

WITHIN = 5
"""Seconds in which nothing of a killed command may be left."""

TRAIN = """
import os, signal, sys
from pathlib import Path
from cross4d_train.loop import Pretraining, make_fabric
from tests.cross4d_train.test_loop import make_settings

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
for _ in range(3):
    if os.fork() == 0:
        for record in Pretraining(Path(sys.argv[1]), make_settings(num_epochs=100_000), make_fabric("cpu"), num_workers=2).steps():
            if record.step == 2:
                os.write(1, f"{os.getpid()}\\n".encode())  # at once: three of them write here
        os._exit(0)
os.close(1), os.close(2)
sys.stdin.read()
"""


def test_loading_needs_no_torch():
    code = "__import__('cross4d_train.dataset') and 'torch' in __import__('sys').modules"
    pool: Workers[str, object] = Workers(eval, 1, lambda answer: answer)
    assert list(pool.map([code])) == [False]


def kill_group(number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(number, signal.SIGKILL)


def test_whatever_ends_a_training_nothing_of_it_is_left(store):
    """Three trainings with two workers each, one for each signal; then their output ends, which a `| tee log` waits for."""
    command = [sys.executable, "-c", TRAIN, str(store)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with ExitStack() as cleaning, subprocess.Popen(command, **pipes, text=True, start_new_session=True) as process:
        cleaning.callback(kill_group, process.pid)  # a test that fails leaves no training either
        assert process.stdout is not None
        trainers = [int(process.stdout.readline()) for _ in range(3)]
        left = {trainer: children_of(trainer) for trainer in trainers}
        assert [len(own) for own in left.values()] == [2, 2, 2]
        for trainer, number in zip(trainers, (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL), strict=True):
            os.kill(trainer, number)
        deadline = time.monotonic() + WITHIN
        assert select.select([process.stdout], [], [], WITHIN)[0], "somebody holds the output"
        assert process.stdout.read() == ""
        while alive := [pid for own in left.values() for pid in own if lives(pid)]:
            assert time.monotonic() < deadline, alive
            time.sleep(0.05)


LOAD = """
import sys
from cross4d_train.clips import ClipSettings, epoch_requests
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset

clips = ClipSettings(num_frames=24, num_points=2048, stride=1)
dataset = ClipDataset(sys.argv[1], clips)
requests = epoch_requests(clips, dataset.cache.sequences, range(12), clips_per_sequence=8, seed=0, epoch=0)
print(sum(batch.points.nbytes for batch in BatchLoader(dataset, num_workers=4).load(in_batches(requests, 16))))
"""


@pytest.mark.parametrize("size", ["64m", "64k"])
def test_shared_memory_may_be_as_small_as_it_likes(store, size):
    """Six batches of more than 9 MB each, eight of which would be on their way."""
    mount = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "-"]
    if not Path("/dev/shm").is_dir() or shutil.which("unshare") is None or subprocess.run([*mount, "true"], check=False).returncode:
        pytest.skip("nothing may be mounted here")
    done = subprocess.run([*mount, sys.executable, "-c", LOAD, str(store)], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == (f"{96 * 24 * 2048 * 12}\n", 0), done.stderr
