"""Encoders trained on equal terms and judged alike: many small runs, a process for each core.

A finished run is kept as a file; a recipe that is stopped and run again goes on where it was.
"""

import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from cross4d_cache.progress import progress
from cross4d_cache.record import Record, RecordError
from cross4d_cache.store import open_cache
from cross4d_train.objectives.objective import ObjectiveSettings
from pipelines.judging import Budget, Features, Job, Outcome, run_job
from pipelines.processes import begin_worker


class Row(Record):
    """One way to get features of tokens: from an encoder, untrained (no objective) or trained on a store by an objective; or from
    no encoder at all, the stored targets of the tokens' points themselves.

    Of several learning rates the one with the best mean accuracy is shown, which favours the row.
    """

    name: str
    store: str
    objective: ObjectiveSettings | None
    features: Features = "encoder"
    learning_rates: tuple[float, ...] = (1e-3,)
    finetuned: bool = False


def plan_jobs(rows: Iterable[Row], stores: Mapping[str, Mapping[str, Path]], seeds: int, budget: Budget) -> list[Job]:
    """Every row on the stores of every data seed (`stores[data][name]`), with every student seed and learning rate."""
    fingerprints = {path: open_cache(path).manifest.fingerprint for paths in stores.values() for path in paths.values()}
    return [
        Job(
            row=row.name,
            data=data,
            seed=seed,
            store=paths[row.store],
            fingerprint=fingerprints[paths[row.store]],
            objective=None if row.objective is None else row.objective.as_new(),
            features=row.features,
            learning_rate=rate,
            budget=budget,
            finetuned=row.finetuned,
        )
        for seed in range(seeds)
        for data, paths in stores.items()
        for row in rows
        for rate in row.learning_rates
    ]


def run_jobs(jobs: Sequence[Job], folder: Path) -> list[Outcome]:
    """The outcome of every job, in order; finished ones are read from `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {number: outcome for number, job in enumerate(jobs) if (outcome := _finished(job, folder)) is not None}
    waiting = [number for number in range(len(jobs)) if number not in outcomes]
    # A run is many small operations: one thread each, and as many runs as there are cores, is faster than the reverse.
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=begin_worker) as pool:
        running = {pool.submit(run_job, jobs[number]): number for number in waiting}
        try:
            for done, _ in progress(as_completed(running), total=len(jobs), initial=len(outcomes), unit="run"):
                outcome = done.result()
                outcomes[running[done]] = outcome
                _path(outcome.job, folder).write_text(outcome.model_dump_json(indent=1) + "\n")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # not after all the others
            raise
    return [outcomes[number] for number in range(len(jobs))]


def _path(job: Job, folder: Path) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in job.row)
    return folder / f"{name}_{job.data}_{job.seed}_{job.learning_rate:g}.json"


def _finished(job: Job, folder: Path) -> Outcome | None:
    try:
        outcome = Outcome.from_json(_path(job, folder).read_bytes())
    except (FileNotFoundError, RecordError):
        return None
    return outcome if outcome.job == job else None
