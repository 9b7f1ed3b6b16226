"""The model card of an exported student: what it learned from, what it expects, how it is loaded, what it was measured at. Nothing in it is
guessed: what was not recorded is said to be that."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cross4d_cache.catalogue import CATALOGUE, DATASETS
from cross4d_cache.errors import printable
from cross4d_cache.record import flatten
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.base import EvaluationResult
from cross4d_train.exported import StudentConfig
from cross4d_train.objectives import OBJECTIVES
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.settings import Origin, RunSettings

NOT_RECORDED = "not recorded"
TAGS = ("cross4d", "point-cloud", "4d", "self-supervised-learning")
OF_PACKAGE = ("tiny", "position", "none")
"""Teachers whose weights, if they have any, come with the package."""


def write_card(config: StudentConfig, encoder: Encoder, results: Sequence[EvaluationResult], license: str | None, notes: str = "") -> str:
    """The text of `README.md`, in Markdown, with the front matter that the hub reads; `notes` are Markdown, the exporter's own words."""
    sections = (
        _front(license),
        _heading(config, encoder, license),
        *([f"## What it knows, and what not\n\n{notes.strip()}"] if notes.strip() else []),
        _learned(config),
        _expects(config),
        _loading(config),
        _results(results),
        _settings(config),
    )
    return "\n\n".join(sections) + "\n"


def _front(license: str | None) -> str:
    lines = ["library_name: cross4d", *([] if license is None else [f"license: {license}"]), "pipeline_tag: feature-extraction", "tags:"]
    return "\n".join(["---", *lines, *(f"- {tag}" for tag in TAGS), "---"])


def _heading(config: StudentConfig, encoder: Encoder, license: str | None) -> str:
    settings = config.settings
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    what = f"{settings.encoder.name} {settings.encoder.size}"
    return (
        f"# {_safe(what)}, pretrained on {_safe(config.origin.dataset)}\n\n"
        f"An encoder of point cloud sequences: `points (frame, point, 3)` in, features of {encoder.channels} channels for every point out."
        f" {parameters:,} parameters. It comes with the head of its objective, without the state of the optimizer. Licence:"
        f" {NOT_RECORDED if license is None else license}."
        + "".join(f"\n\n**{_safe(warning.text)}.**" for warning in config.origin.warnings())
    )


def _learned(config: StudentConfig) -> str:
    """Data and teacher of the run, and of the runs whose encoder it began with."""
    runs = [(config.settings, config.origin, config.step), *((run.settings, run.origin, run.step) for run in config.settings.ancestors)]
    shown = [_table("| | |", _run(*run)) for run in runs]
    return "## What it learned from\n\n" + "\n\nIt began with an encoder that had learned from:\n\n".join(shown)


def _run(settings: RunSettings, origin: Origin, step: int) -> list[tuple[str, object]]:
    training = settings.training
    side = training.side if training.protocol is None else f"{training.side}, protocol {training.protocol}"
    return [
        *_dataset(origin.dataset),
        ("sequences", f"side: {side}"),
        *_teacher(settings, origin),
        ("objective", settings.objective.name),
        ("steps done", f"{step:,}"),
        ("fingerprint of the store", origin.fingerprint),
    ]


def _dataset(name: str) -> list[tuple[str, object]]:
    known = DATASETS.get(name)
    if known is None:
        return [("dataset", name), ("its release", NOT_RECORDED), ("its licence", NOT_RECORDED)]
    released = f"{known.title}, {known.page}" if known.page else known.title
    return [("dataset", name), ("its release", released), ("its licence", known.licence or NOT_RECORDED)]


def _teacher(settings: RunSettings, origin: Origin) -> list[tuple[str, object]]:
    kind = settings.objective.kind
    if OBJECTIVES.has(kind) and not issubclass(OBJECTIVES.find(kind), Distillation):
        return [("teacher", f"none: {kind} learns from points alone")]
    return [("teacher", origin.teacher), ("its licence", teacher_licence(origin))]


def teacher_licence(origin: Origin) -> str:
    """The licence of a teacher's weights, if they are those that are published under its name."""
    name, _, weights = origin.teacher.removesuffix(")").partition(" (")
    if origin.random_teacher:
        return "none: its weights were random and never trained"
    known = CATALOGUE.get(name)
    if known is None:
        return NOT_RECORDED
    if name in OF_PACKAGE or weights == known.hub_id:
        return known.licence
    return f"{NOT_RECORDED} of {weights}; the published weights of {name}: {known.licence}"


def _expects(config: StudentConfig) -> str:
    clips = config.settings.clips
    taken = "every frame" if clips.stride == 1 else f"one of every {clips.stride} frames"
    return (
        "## What it expects\n\n"
        "- **Unit**: metres. Nothing is normalised.\n"
        "- **Axes**: x right, y down, z forward. Where the origin lies does not matter.\n"
        f"- **Frames**: consecutive ones, at the frame rate of {_safe(config.origin.dataset)}, which is {NOT_RECORDED} here.\n"
        f"- **Clips**: it learned from {clips.num_frames} frames x {clips.num_points:,} points, {taken}. `features` takes any number of"
        " frames and points, shows the encoder such clips, and interpolates to all points."
    )


def _loading(config: StudentConfig) -> str:
    return (
        "## How to load it\n\n```python\nimport cross4d_train\n\n"
        'student = cross4d_train.load("FOLDER")  # or a zip of it, its https address, or OWNER/NAME on the hub\n'
        "features = student.features(points)\n```\n\n"
        "The commands of `cross4d-train` take the same places as checkpoints. To be sure that it is this student:\n\n"
        f'```python\ncross4d_train.load("OWNER/NAME", sha256="{config.sha256}")\n```'
    )


def _results(results: Sequence[EvaluationResult]) -> str:
    if not results:
        return "## Results\n\nNone were given."
    return "\n\n".join(["## Results", *map(_result, results)])


def _result(result: EvaluationResult) -> str:
    """The table of the command, indented, so that nothing in it is markup."""
    seen = {True: "were seen in pre-training, without their labels", False: "were not seen in pre-training"}
    table = "\n".join(f"    {printable(line)}" for line in result.describe().splitlines())
    known = seen.get(result.test_seen_in_pretraining, "may have been seen in pre-training: that cannot be told")  # type: ignore[arg-type]
    store = f"store {_safe(result.evaluation.dataset)}, fingerprint {_safe(result.evaluation.fingerprint)}"
    return f"{table}\n\nTest videos {known}. Evaluated on {store}, on {_safe(result.device)}."


def _settings(config: StudentConfig) -> str:
    groups = {
        "Settings": config.settings.model_dump(mode="json", exclude={"initial"}),
        "Encoder": config.encoder_config,
        "Software": config.software,
    }
    tables = [f"## {name}\n\n{_table('| name | value |', flatten(group).items())}" for name, group in groups.items()]
    progress = f"Step {config.step:,} of {config.num_steps:,}, epoch {config.epoch:,}."
    return "\n\n".join([tables[0], progress, *tables[1:]])


def _table(heading: str, rows: Iterable[tuple[str, object]]) -> str:
    return "\n".join([heading, "|---|---|", *(f"| {_safe(name)} | {_safe(value)} |" for name, value in rows)])


_MARKUP: Mapping[str, Any] = {letter: f"&#{ord(letter)};" for letter in "|`[]*\\"}


def _safe(value: object) -> str:
    """A value as Markdown shows it and nothing else: names come from files of other people."""
    return escape(printable(str(value)), quote=False).translate(str.maketrans(dict(_MARKUP)))
