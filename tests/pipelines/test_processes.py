import os
import signal
import subprocess
import sys
from pathlib import Path

POOL = """
import multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
from pipelines.processes import begin_worker

pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver"), initializer=begin_worker)
assert pool.submit(os.getpid).result() != os.getpid()
pool.submit(time.sleep, 1000)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_process_of_a_pool_outlives_a_recipe_that_is_killed():
    """Its output ends only when none of them holds it any more: worker, forkserver or tracker."""
    surroundings = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", POOL], env=surroundings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
