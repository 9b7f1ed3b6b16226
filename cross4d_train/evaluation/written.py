"""Results of evaluations that were written as JSON, read again."""

from inspect import signature
from pathlib import Path

from cross4d_cache.errors import SettingsError
from cross4d_cache.patience import hint_for, patiently
from cross4d_cache.record import NewerRecordError, RecordError
from cross4d_train.evaluation.base import EvaluationResult
from cross4d_train.evaluation.evaluate import EVALUATIONS
from cross4d_train.evaluation.transfer import TransferResult

KINDS: tuple[type[EvaluationResult], ...] = tuple(
    dict.fromkeys(signature(kind.result).return_annotation for kind, _ in EVALUATIONS.values())
)
"""What the evaluations return."""


def read_results(path: Path) -> tuple[EvaluationResult, ...]:
    """The results in a file that an evaluation wrote; all probes of a transfer.

    Raises:
        SettingsError: it cannot be read, or is none.
    """
    try:
        data = patiently(path.read_bytes)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}", hint=hint_for(error, "check the name given to `results`")) from None
    try:
        return tuple(probe for row in TransferResult.from_json(data).probes for probe in row)
    except RecordError:
        return (_read_one(data, path),)


def _read_one(data: bytes, path: Path) -> EvaluationResult:
    """The result as the kind that knows most of its fields: some kinds would take those of others for ones of a newer release."""
    found: list[EvaluationResult] = []
    problem: RecordError | None = None
    for kind in KINDS:
        try:
            found.append(kind.from_json(data))
        except RecordError as error:
            problem = error if problem is None or isinstance(error, NewerRecordError) else problem
    if found:
        return min(found, key=lambda result: len(result.unknown))
    raise SettingsError(
        f"{path} is no result of an evaluation ({problem})",
        expected="JSON that probe, knn, finetune, segment, segment-actions, robustness, correspondence or transfer wrote with `out`",
        hint="leave it out of `results`, or write it again",
    )
