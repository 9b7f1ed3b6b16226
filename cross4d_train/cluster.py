"""How the processes of several devices start: by torchrun, by SLURM, or, on one node, by the first of them. One device needs none of it.

Lightning guesses this from the environment, also where one device is asked for, and waits for processes that nobody starts. Here the
environment is read in one place, and what cannot work is told before anything begins.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from torch.distributed import DistError

from cross4d_cache.errors import SettingsError

_FIRST_PROCESS = "CROSS4D_FIRST_PROCESS"
"""The process that started this one as a further device."""

_OTHER_LAUNCHERS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Left by containers and shells; Lightning takes them for its own."""


class _Started(ClusterEnvironment):
    """One of the processes that others started, on one node or on several."""

    def __init__(self, *, rank: int, size: int, local_rank: int, node_rank: int, address: str, port: int) -> None:
        self._rank, self._size, self._address, self._port = rank, size, address, port
        self._local_rank, self._node_rank = local_rank, node_rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._address

    @property
    def main_port(self) -> int:
        return self._port

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self._rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self._local_rank

    def node_rank(self) -> int:
        return self._node_rank


def find_environment(num_devices: int, num_nodes: int = 1) -> ClusterEnvironment:
    """What tells this process its place among those of `num_devices` devices of each of some nodes.

    Raises:
        SettingsError: it was started as one of another number, or on another number of nodes, or by nobody who could start the other
            nodes; or the process that started it has ended.
    """
    if num_devices * num_nodes == 1:
        return LightningEnvironment()
    if _was_started_by_the_first():
        _end_with_parent()
        return LightningEnvironment()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _of_torchrun(num_devices, num_nodes)
    if "SLURM_JOB_ID" in os.environ:
        found = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
        _refuse_nodes("SLURM", "srun --nodes", found, num_nodes)
    # A job script that does not use srun is one process, whatever number of tasks the job has; only a step is of several.
    if (num_tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))) > 1:
        return _of_slurm(num_tasks, num_devices, num_nodes)
    if num_nodes > 1:
        raise SettingsError(
            f"`num_nodes` {num_nodes} in a command that nothing started on {num_nodes} nodes",
            expected="srun, or torchrun on each node",
            hint=f"start it by srun with {num_nodes} nodes and {num_devices} tasks on each, or leave `num_nodes` out",
        )
    for name in _OTHER_LAUNCHERS:
        os.environ.pop(name, None)
    os.environ[_FIRST_PROCESS] = str(os.getpid())
    return LightningEnvironment()


def _was_started_by_the_first() -> bool:
    """Whether this is a further process of a run, which its first one started.

    Whatever the first process starts inherits its mark, also another run from the same notebook: a further process has a rank above 0
    besides. One whose first process ended while it was starting must not begin a run of its own.

    Raises:
        SettingsError: the first process has ended.
    """
    first, rank = os.environ.get(_FIRST_PROCESS), os.environ.get("LOCAL_RANK", "0")
    if first is None or rank == "0":
        return False
    if first == str(os.getppid()):
        return True
    try:
        os.kill(int(first), 0)
    except OSError:
        raise SettingsError(
            f"process {first}, which started this one for device {rank}, has ended",
            expected="it waits for this one",
            hint="start the run again",
        ) from None
    return False


def _of_torchrun(num_devices: int, num_nodes: int) -> ClusterEnvironment:
    environ = os.environ
    found = int(environ.get("GROUP_WORLD_SIZE", "1"))
    _refuse_nodes("torchrun", "torchrun --nnodes", found, num_nodes)
    size = int(environ["WORLD_SIZE"])
    _refuse_number("torchrun --nproc-per-node", size, num_devices, num_nodes)
    _end_with_parent()
    return _Started(
        rank=int(environ["RANK"]),
        size=size,
        local_rank=int(environ["LOCAL_RANK"]),
        node_rank=int(environ.get("GROUP_RANK", "0")),
        address=environ["MASTER_ADDR"],
        port=int(environ["MASTER_PORT"]),
    )


def _of_slurm(num_tasks: int, num_devices: int, num_nodes: int) -> ClusterEnvironment:
    _refuse_number("srun --ntasks-per-node" if num_nodes > 1 else "srun --ntasks", num_tasks, num_devices, num_nodes)
    job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    nodes = next(filter(None, map(os.environ.get, ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"))), "127.0.0.1")
    return _Started(
        rank=int(os.environ["SLURM_PROCID"]),
        size=num_tasks,
        local_rank=int(os.environ["SLURM_LOCALID"]),
        node_rank=int(os.environ.get("SLURM_NODEID", "0")) if num_nodes > 1 else 0,
        address=SLURMEnvironment.resolve_root_node_address(nodes) if num_nodes > 1 else "127.0.0.1",
        port=15_000 + (101 * job + step) % 15_000,  # all tasks must find it without a word, and steps of one job may share a node
    )


def _refuse_nodes(launcher: str, option: str, found: int, num_nodes: int) -> None:
    """Refuse another number of nodes than was asked for; `option` tells the launcher the number."""
    if found != num_nodes:
        raise SettingsError(
            f"`num_nodes` {num_nodes}, but {launcher} has {found}",
            expected="as many nodes as the run is to have",
            hint=f"use `num_nodes` {found}, or {option}={num_nodes}; runs of their own on each node have an `out` each"
            + (" (`srun --nodes=1 --ntasks=1`)" if launcher == "SLURM" else ""),
        )


def _refuse_number(option: str, found: int, num_devices: int, num_nodes: int) -> None:
    """Refuse another number of processes than of devices; `option` is the launcher and what tells it the number on a node."""
    if found != num_devices * num_nodes:
        nodes = f" on each of {num_nodes} nodes" if num_nodes > 1 else ""
        raise SettingsError(
            f"`num_devices` {num_devices}{nodes}, but {option.split()[0]} started {found} processes",
            expected="a process for every device, or, on one node, a single one, which starts the others itself",
            hint=f"use `num_devices` {found // num_nodes}, or {option}={num_devices}",
        )


def _end_with_parent() -> None:
    """End this process soon after the one that started it: without it, it would wait for the others of the run for half an hour."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def launch(fabric: Fabric) -> None:
    """Start the other processes, if this is the one that does, and meet them.

    Raises:
        SettingsError: they do not come, or cannot be started.
    """
    environment = getattr(fabric.strategy, "cluster_environment", None)  # that of several devices has one
    if isinstance(environment, LightningEnvironment) and fabric.world_size > 1 and sys.argv[0] == "-c":
        raise SettingsError(
            f"{fabric.world_size} devices of a program that was given as a text, by `python -c`",
            expected="a command or a file, which is started again for each of the other devices",
            hint="start the command itself, or use `num_devices` 1",
        )
    try:
        with without_lightning_options():
            fabric.launch()
    except DistError as error:
        raise SettingsError(
            f"the processes of the {fabric.world_size} devices did not find each other: {error}",
            expected="all of them running, and one port of the first one's machine free and reachable",
            hint="look whether one of them ended with a message of its own, or use `num_devices` 1",
        ) from None


@contextmanager
def without_lightning_options() -> Iterator[None]:
    """For calls of Fabric: variables that Lightning's own launcher sets count more for it than what it is told."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("LT_")}
    try:
        yield
    finally:
        os.environ.update(hidden)
