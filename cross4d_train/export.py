"""A student to hand on: weights, `config.json` and a model card in a folder of their own."""

import re
from collections.abc import Mapping, Sequence
from json import dumps
from pathlib import Path

from cross4d_cache.durable import names_in, partial_path, sweep, sync_folder, sync_tree
from cross4d_cache.errors import CheckpointError, OutputError, SettingsError
from cross4d_cache.record import Record, compare
from cross4d_cache.store.digest import Sha256, sha256_bytes
from cross4d_cache.work import Remark, Work, newer
from cross4d_train.card import write_card
from cross4d_train.checkpoint import Checkpoint, CheckpointRecord, load_checkpoint, load_encoder
from cross4d_train.evaluation.base import EvaluationResult
from cross4d_train.evaluation.written import read_results
from cross4d_train.exported import CARD_FILE, CONFIG_FILE, FILES, WEIGHTS_FILE, StudentConfig, read_config
from cross4d_train.output import writing
from cross4d_train.places import checkpoint_at


class ExportRequest(Record):
    """The student of a run, at any place as `load` takes it, in the folder `out`.

    `results` are files that evaluations of this student wrote. `license` is what the hub calls the licence that it is handed on under, such
    as apache-2.0; None if nothing is said of it. `notes` is a file of Markdown, your own words for the card. `encoder` is the name of the
    class of its encoder, where that was given.
    """

    run: str
    out: Path
    results: tuple[Path, ...] = ()
    license: str | None = None
    notes: Path | None = None
    encoder: str | None = None


class ExportResult(Record):
    """Where the student is, the hash and the bytes of its weights, and after how many steps."""

    out: str
    sha256: Sha256
    bytes: int
    step: int

    def describe(self) -> str:
        """A line for each."""
        return "\n".join(f"{name:7} {value:,}" if isinstance(value, int) else f"{name:7} {value}" for name, value in self)


def export(request: ExportRequest) -> Work[ExportResult]:
    """Write the folder, whole or not at all. The same request on the same run gives the same bytes.

    Raises:
        CheckpointError: there is no student, or its weights do not fit its encoder.
        SettingsError: a result that cannot be read or is of another student, or a licence that the hub would not take.
        OutputError: `out` is something else than an earlier export, or cannot be written.
    """
    _check_license(request.license)
    checkpoint = load_checkpoint(checkpoint_at(request.run))
    record = checkpoint.record
    yield from newer(record, request.run)
    if record.step < record.num_steps:
        yield Remark(f"note: the run has done {record.step:,} of its {record.num_steps:,} steps")
    results = [result for path in request.results for result in _results_of(record, path)]
    files = _files(checkpoint, results, request)
    _place(request.out, files)
    yield from record.origin.warnings()
    weights = files[WEIGHTS_FILE]
    return ExportResult(out=str(request.out), sha256=sha256_bytes(weights), bytes=len(weights), step=record.step)


def _check_license(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name):
        expected = "a name as the hub writes it, such as apache-2.0"
        raise SettingsError(f"license = {name[:80]!r}", expected=expected, hint="choose another `license`, or leave it out")


def _results_of(record: CheckpointRecord, path: Path) -> list[EvaluationResult]:
    """The results in a file that are of the student of this record.

    Raises:
        SettingsError: there are none, or the file cannot be read.
    """
    found = read_results(path)
    differences = [_differences(record, result) for result in found]
    mine = [result for result, different in zip(found, differences, strict=True) if not different]
    if not mine:
        raise SettingsError(
            f"{path} is a result of another student:",
            details=differences[0][:20] if differences else (),
            expected="results of the student that is exported",
            hint="leave it out of `results`, or evaluate this student",
        )
    return mine


def _differences(record: CheckpointRecord, result: EvaluationResult) -> list[str]:
    """A line for each thing in which the student of a record differs from the one that has a result."""
    if result.training is None or result.pretraining is None:
        return ["its encoder is untrained"]
    mine, theirs = (
        {"settings": settings.model_dump(mode="json"), "store": origin.model_dump(mode="json"), "step": step}
        for settings, origin, step in (
            (record.settings, record.origin, record.step),
            (result.training, result.pretraining, result.step),
        )
    )
    return compare(mine, theirs)


def _files(checkpoint: Checkpoint, results: Sequence[EvaluationResult], request: ExportRequest) -> dict[str, bytes]:
    """The bytes of every file of an export. What is handed on has been built and compared with its configuration."""
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if not name.startswith("optimizer.")}
    student = Checkpoint(record=checkpoint.record, tensors=kept)
    encoder, weights = load_encoder(student, request.encoder), student.to_bytes()
    config = StudentConfig.from_json(dumps(checkpoint.record.model_dump(mode="json") | {"sha256": sha256_bytes(weights)}))
    card = write_card(config, encoder, results, request.license, _read_notes(request.notes))
    return {WEIGHTS_FILE: weights, CONFIG_FILE: (config.model_dump_json(indent=1) + "\n").encode(), CARD_FILE: card.encode()}


def _read_notes(path: Path | None) -> str:
    try:
        return "" if path is None else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", expected="a text file", hint="choose another `notes`") from None


def _place(out: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder of these files into its place, or leave the one that is there if it has them already."""
    with writing(out):
        if _existing(out) == files:
            return
        place = out.resolve()  # a link stays one
        place.parent.mkdir(parents=True, exist_ok=True)
        partial, old = partial_path(place.parent, place.name), partial_path(place.parent, place.name)
        try:
            partial.mkdir()
            for name, data in files.items():
                (partial / name).write_bytes(data)
            sync_tree(partial)
            if place.exists():
                place.rename(old)
            partial.rename(place)
            sync_folder(place.parent)
        finally:
            if old.exists() and not place.exists():
                old.rename(place)
            sweep(old)
            sweep(partial)


def _existing(out: Path) -> dict[str, bytes]:
    """The files of an earlier export, none if there is nothing yet.

    Raises:
        OutputError: there is something else.
    """
    names = names_in(out) if out.exists() else set()
    strange = sorted(names - set(FILES))
    try:
        if names and not strange:
            read_config(out / CONFIG_FILE)
    except CheckpointError:
        strange = [CONFIG_FILE]
    if strange:
        raise OutputError(
            f"{out} has something else in it: {strange[0]}",
            expected="the folder of an earlier export, an empty one, or none",
            hint="choose another `out`",
        )
    return {name: (out / name).read_bytes() for name in names}
