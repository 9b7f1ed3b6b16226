"""What has to be done for the cells of some tables, each thing once, in the order in which it is best done."""

from collections.abc import Iterable, Sequence

from pipelines.experiment.table import Cell
from pipelines.experiment.work import EvaluationRun, Piece, Store, Student


def runs_of(cells: Iterable[Cell], seeds: int) -> list[EvaluationRun]:
    """Every evaluation, with every seed, each once."""
    known = list(cells)
    every = [run.with_seed(seed) for seed in range(seeds) for cell in known for run in cell.runs]
    return list({item.model_dump_json(): item for item in every}.values())


def trained(students: Iterable[Student]) -> list[Student]:
    """Those that are trained, each once."""
    return list({item.folder: item for item in students if item.settings is not None}.values())


def stores_of(stores: Iterable[Store], students: Iterable[Student]) -> list[Store]:
    """These stores and those that students learn from, each once and after the one that it is derived from."""
    every = [*stores, *(item.store for item in students if item.store is not None)]
    return list({store.path: store for item in every for store in item.needed}.values())


def pieces(students: Sequence[Student], runs: Sequence[EvaluationRun], seeds: int) -> list[Piece]:
    """Both, seed by seed; the evaluations of a student follow it at once, so that a recipe that is stopped leaves results."""
    found: list[Piece] = []
    for seed in range(seeds):
        found += [item for item in runs if item.student.settings is None and item.student.seed == seed]
        for student in students:
            if student.seed == seed:
                found += [student, *(item for item in runs if item.student == student)]
    return found
