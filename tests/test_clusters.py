"""The job scripts of docs/clusters.md, as far as they go without SLURM: stand-ins for its commands, and real command lines."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cross4d_cache.build.turns import Shard
from cross4d_cache.cli.app import app as cache_app
from cross4d_train.cli.app import app as train_app

PAGE = next((folder / "docs" / "clusters.md" for folder in Path(__file__).parents if (folder / "docs" / "clusters.md").is_file()), None)
SCRIPTS = re.findall(r"```sh\n(#!/bin/bash\n.*?)```", PAGE.read_text(), flags=re.DOTALL) if PAGE else []
ARRAY, FINISH, TRAIN, TORCHRUN = (*SCRIPTS, *[""] * 4)[:4]
APPS = {"cross4d-cache": cache_app, "cross4d-train": train_app}

STAND_IN = f"""#!{sys.executable}
import json, os, subprocess, sys
name = os.path.basename(sys.argv[0])
with open("called", "a") as called:
    called.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if name == "srun":
    sys.exit(subprocess.run(sys.argv[1:]).returncode)
sys.exit(int(os.environ.get("ENDS_WITH", "0")) if name.startswith("cross4d") else 0)
"""

pytestmark = pytest.mark.skipif(PAGE is None, reason="no folder above the tests holds docs/clusters.md; run them in the repository")


def called_by(script: str, folder: Path, **variables: str) -> list[list[str]]:
    """What a script calls, in order."""
    (folder / "bin").mkdir()
    for name in ("srun", "scontrol", "torchrun", *APPS):
        (folder / "bin" / name).write_text(STAND_IN)
        (folder / "bin" / name).chmod(0o755)
    (folder / "job.sh").write_text(script)
    places = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "DATA": "data", "SCRATCH": "scratch"}
    subprocess.run(["bash", "-u", "job.sh"], cwd=folder, env={**os.environ, **places, **variables}, timeout=60, check=False)
    return [json.loads(line) for line in (folder / "called").read_text().splitlines()]


def parsed(program: str, command: str, *words: str) -> dict[str, object]:
    """The values that a real command line takes from some words."""
    group = typer.main.get_command(APPS[program])
    found: dict[str, object] = group.commands[command].make_context(command, list(words)).params  # type: ignore[attr-defined]
    return found


def test_the_page_has_these_scripts_and_bash_reads_them() -> None:
    assert len(SCRIPTS) == 4
    for script in SCRIPTS:
        subprocess.run(["bash", "-n"], input=script, text=True, timeout=60, check=True)


@pytest.mark.parametrize("number", [1, 8])
def test_jobs_of_an_array_take_their_shards(tmp_path: Path, number: int) -> None:
    [words] = called_by(ARRAY, tmp_path, SLURM_ARRAY_TASK_ID=str(number), SLURM_ARRAY_TASK_COUNT="8")
    found = parsed(*words)
    assert Shard.parse(str(found["shard"])) == Shard(number=number, count=8)
    first, last = re.findall(r"--array=(\d+)-(\d+)", ARRAY)[0]
    assert (first, last) == ("1", "8")
    assert (found["out"], found["data"]) == (Path("scratch/ntu.zarr"), Path("data/ntu"))


def test_what_finishes_a_store_is_the_same_command_without_a_shard(tmp_path: Path) -> None:
    (tmp_path / "array").mkdir()
    (tmp_path / "finish").mkdir()
    [array] = called_by(ARRAY, tmp_path / "array", SLURM_ARRAY_TASK_ID="2", SLURM_ARRAY_TASK_COUNT="8")
    [finish] = called_by(FINISH, tmp_path / "finish")
    assert parsed(*finish) == parsed(*array) | {"shard": None}


@pytest.mark.parametrize(("code", "again"), [(0, False), (2, False), (75, True)])
def test_a_training_asks_to_be_started_again_after_a_warning_alone(tmp_path: Path, code: int, again: bool) -> None:
    job = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_ID": "77", "ENDS_WITH": str(code)}
    srun, train, *rest = called_by(TRAIN, tmp_path, **job)
    assert srun == ["srun", *train]
    found = parsed(*train)
    assert (found["devices"], found["nodes"], found["save_every"]) == (4, 2, 30.0)
    assert rest == ([["scontrol", "requeue", "77"]] if again else [])
    assert "--signal=USR1@120" in TRAIN


def test_torchrun_is_given_as_many_as_the_command(tmp_path: Path) -> None:
    [words] = called_by(TORCHRUN, tmp_path, NODE_RANK="1", FIRST_NODE="gpu07")
    start = words.index("cross4d-train")
    found = parsed(*words[start:])
    assert f"--nnodes={found['nodes']}" in words[:start]
    assert f"--nproc-per-node={found['devices']}" in words[:start]
    assert {"--node-rank=1", "--master-addr=gpu07", "--no-python"} <= set(words[:start])
