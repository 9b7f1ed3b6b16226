"""One device needs no cluster; several start as torchrun, SLURM or the first of them says. No SLURM here: its variables are set by hand."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cross4d_cache.errors import SettingsError
from cross4d_cache.rendering.device import choose_device
from cross4d_train.cli.app import app
from cross4d_train.cluster import find_environment, launch
from cross4d_train.loop import make_fabric

STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "1"}
JOB = {
    "SLURM_JOB_ID": "1234567", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3",
    "SLURM_NODEID": "0", "SLURM_NNODES": "1",
}  # fmt: skip
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "GROUP_RANK": "0",
    "GROUP_WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip
SURROUNDINGS = {
    "a SLURM job script": JOB,
    "a SLURM step": JOB | STEP,
    "a SLURM job of several nodes": JOB | {"SLURM_NNODES": "4", "SLURM_NODEID": "2", "SLURM_NTASKS": "32", "SLURM_NTASKS_PER_NODE": "8"},
    "torchrun": TORCHRUN,
    "LSF": {
        "LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/none", "JSM_NAMESPACE_LOCAL_RANK": "1", "JSM_NAMESPACE_SIZE": "4",
        "JSM_NAMESPACE_RANK": "1",
    },
    "MPI": {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "4", "PMI_RANK": "1"},
    "PBS": {"PBS_JOBID": "1", "PBS_NODEFILE": "/none"},
    "Kubeflow": {"KUBERNETES_PORT": "x", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1", "WORLD_SIZE": "4", "RANK": "1", "LOCAL_RANK": "0"},
    "Lightning's launcher": {
        "LT_CLI_USED": "1", "LT_DEVICES": "4", "LT_STRATEGY": "ddp", "LT_ACCELERATOR": "cuda", "LT_NUM_NODES": "2",
        "LT_PRECISION": "64-true",
    },
    "a shell": {
        "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3", "PL_GLOBAL_SEED": "x", "NODE_RANK": "2", "TORCH_DISTRIBUTED_DEBUG": "INFO",
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Variables that the code itself removes or sets are put back as well."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_one_device_needs_no_cluster(surroundings):
    os.environ.update(surroundings)
    fabric = make_fabric("cpu")
    launch(fabric)
    assert (fabric.world_size, fabric.global_rank, fabric.device) == (1, 0, torch.device("cpu"))
    assert fabric._precision.precision == "32-true"
    assert {name: os.environ[name] for name in surroundings} == surroundings


NOT_SEVERAL = {"torchrun", "a SLURM step", "a SLURM job of several nodes"}


@pytest.mark.parametrize("surroundings", [SURROUNDINGS[name] for name in SURROUNDINGS if name not in NOT_SEVERAL])
def test_several_start_alone_where_nobody_starts_them(surroundings):
    os.environ.update(surroundings)
    fabric = make_fabric("cpu", 2)
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank, fabric.node_rank) == (2, 0, 0, 0)
    environment = find_environment(2)
    assert not environment.creates_processes_externally
    assert environment.main_address == "127.0.0.1"


@pytest.mark.parametrize(
    ("surroundings", "message"),
    [
        (
            SURROUNDINGS["a SLURM job of several nodes"],
            "`num_nodes` 1, but SLURM has 4\n.*\n  next: use `num_nodes` 4, or srun --nodes=1; .*own .*srun --nodes=1 --ntasks=1",
        ),
        (JOB | STEP | {"SLURM_STEP_NUM_NODES": "2"}, "`num_nodes` 1, but SLURM has 2"),
        (
            TORCHRUN | {"GROUP_WORLD_SIZE": "3", "WORLD_SIZE": "12"},
            "`num_nodes` 1, but torchrun has 3\n.*\n  next: use `num_nodes` 3, or torchrun --nnodes=1",
        ),
        (JOB | STEP, "`num_devices` 2, but srun started 4 processes\n.*\n  next: use `num_devices` 4, or srun --ntasks=2"),
        (TORCHRUN, "`num_devices` 2, but torchrun started 4 processes\n.*\n  next: use `num_devices` 4, or torchrun --nproc-per-node=2"),
    ],
)
def test_what_cannot_work_is_told_with_what_to_do(surroundings, message):
    os.environ.update(surroundings)
    with pytest.raises(SettingsError, match=message):
        make_fabric("cpu", 2)


NODES = JOB | {
    "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "3", "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2",
}  # fmt: skip
TORCHRUN_NODES = TORCHRUN | {
    "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3", "RANK": "4", "LOCAL_RANK": "0", "GROUP_RANK": "2",
    "MASTER_ADDR": "gpu07",
}  # fmt: skip


@pytest.mark.parametrize("surroundings", [NODES, TORCHRUN_NODES], ids=["SLURM", "torchrun"])
def test_several_nodes_are_what_their_launcher_says(surroundings):
    os.environ.update(surroundings)
    fabric = make_fabric("cpu", 2, num_nodes=3)
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank, fabric.node_rank) == (6, 4, 0, 2)
    environment = find_environment(2, 3)
    assert environment.main_address == "gpu07"
    assert environment.creates_processes_externally


def test_one_device_of_each_of_several_nodes(monkeypatch):
    os.environ.update(NODES | {"SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "2"})
    fabric = make_fabric("cpu", 1, num_nodes=3)
    assert (fabric.world_size, fabric.global_rank, fabric.local_rank, fabric.node_rank) == (3, 2, 0, 2)


@pytest.mark.parametrize(
    ("surroundings", "message"),
    [
        ({}, "`num_nodes` 3 in a command that nothing started on 3 nodes\n.*\n  next: start it by srun with 3 nodes and 2 tasks on each"),
        (JOB, "`num_nodes` 3, but SLURM has 1"),
        (JOB | {"SLURM_NNODES": "3"}, "`num_nodes` 3 in a command that nothing started"),
        (
            NODES | {"SLURM_STEP_NUM_TASKS": "3"},
            "`num_devices` 2 on each of 3 nodes, but srun started 3 processes\n.*\n  next: use `num_devices` 1",
        ),
        (TORCHRUN, "`num_nodes` 3, but torchrun has 1"),
        (TORCHRUN_NODES | {"WORLD_SIZE": "12"}, "or torchrun --nproc-per-node=2"),
    ],
)
def test_nodes_that_nothing_started_are_refused(surroundings, message):
    os.environ.update(surroundings)
    with pytest.raises(SettingsError, match=message):
        make_fabric("cpu", 2, num_nodes=3)


def test_the_command_asks_for_its_nodes(store, tmp_path):
    words = ["pretrain", "--cache", str(store), "--out", str(tmp_path / "run"), "--devices", "2", "--nodes", "3", "--device", "cpu"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, SettingsError)
    assert "`num_nodes` 3 in a command that nothing started on 3 nodes" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_step_on_one_node_of_a_larger_job_is_fine():
    os.environ.update(JOB | STEP | {"SLURM_NNODES": "4", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"})
    fabric = make_fabric("cpu", 2)
    assert (fabric.world_size, fabric.global_rank) == (2, 1)
    os.environ["SLURM_STEP_ID"] = "1"
    assert find_environment(2).main_port != fabric.strategy.cluster_environment.main_port


def test_what_lightning_refuses_is_one_of_our_errors(monkeypatch):
    monkeypatch.setattr("lightning_fabric.connector._IS_INTERACTIVE", True)
    with pytest.raises(SettingsError, match=r"(?s)cannot use 2 devices: .*interactive.*next: use `num_devices` 1"):
        make_fabric("cpu", 2)


def test_a_program_that_cannot_be_started_again_is_refused(monkeypatch):
    """Its other processes end at once, and the first one was killed without a word."""
    monkeypatch.setattr(sys, "argv", ["-c", "pretrain"])
    with pytest.raises(SettingsError, match=r"(?s)2 devices of a program that was given as a text.*next: start the command itself"):
        launch(make_fabric("cpu", 2))
    launch(make_fabric("cpu"))


def test_only_what_the_first_process_started_for_a_rank_is_one_of_the_run():
    """Its mark is inherited by all that it starts; once it made the others hang, or begin a run of their own."""
    parent = str(os.getppid())
    os.environ.update(JOB | {"CROSS4D_FIRST_PROCESS": parent, "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1"})
    assert find_environment(2).main_address == "10.0.0.1"
    for inherited in ({"LOCAL_RANK": "0"}, {"CROSS4D_FIRST_PROCESS": str(os.getpid())}):
        os.environ.update(JOB | {"CROSS4D_FIRST_PROCESS": parent, "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1"} | inherited)
        assert find_environment(2).main_address == "127.0.0.1", "the first of a run of its own"
        assert os.environ["CROSS4D_FIRST_PROCESS"] == str(os.getpid())
    ended = subprocess.Popen(["true"])
    ended.wait()
    os.environ.update({"CROSS4D_FIRST_PROCESS": str(ended.pid), "LOCAL_RANK": "1"})
    with pytest.raises(SettingsError, match=f"process {ended.pid}, which started this one for device 1, has ended"):
        find_environment(2)


@pytest.mark.parametrize("choose", [make_fabric, choose_device])
def test_coordinates_are_never_multiplied_in_tensorfloat(choose):
    torch.set_float32_matmul_precision("high")
    choose("cpu")
    assert torch.get_float32_matmul_precision() == "highest"


RANKS = """
import os, sys, time
from pathlib import Path
from cross4d_train.cluster import launch
from cross4d_train.loop import Pretraining, make_fabric
from tests.cross4d_train.test_loop import make_settings

def train():
    fabric = make_fabric("cpu", 2)
    launch(fabric)
    losses = [record.loss for record in Pretraining(Path(sys.argv[1]), make_settings(num_epochs=1), fabric).steps()]
    os.write(1, f"{fabric.global_rank} {losses}\\n".encode())

if "LOCAL_RANK" in os.environ:
    train()
    time.sleep(1000)
for kind in ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[2]},
             {"SLURM_JOB_ID": sys.argv[2], "SLURM_NTASKS": "2", "SLURM_STEP_ID": "7", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NNODES": "1"}):
    for rank in "01":
        if os.fork() == 0:
            os.environ.update(kind | {"RANK": rank, "LOCAL_RANK": rank, "SLURM_PROCID": rank, "SLURM_LOCALID": rank})
            train()
            os._exit(0)
    os.wait(), os.wait()
train()
os.kill(os.getpid(), 9)
"""


def test_however_two_devices_start_they_train_alike_and_none_outlives_the_first(store, tmp_path):
    """By torchrun, by srun, and alone; the last time the first process is killed, and the second must not hold the output."""
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    inherited = {"CROSS4D_FIRST_PROCESS": str(os.getpid())}  # of a run that this process began
    surroundings = (
        os.environ | JOB | inherited | {"MASTER_ADDR": "10.0.0.1", "NODE_RANK": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    command = [sys.executable, str(script), str(store), str(20_000 + os.getpid() % 10_000)]
    done = subprocess.run(command, env=surroundings, stdout=subprocess.PIPE, text=True, timeout=240, check=False)
    assert done.returncode == -signal.SIGKILL
    ranks, losses = zip(*(line.split(maxsplit=1) for line in done.stdout.splitlines()), strict=True)
    assert sorted(ranks) == ["0"] * 3 + ["1"] * 3
    assert len(set(losses)) == 1
    assert len(json.loads(losses[0])) == 3
