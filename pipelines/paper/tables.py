"""The paper's tables as rows of cells, for any benchmark; a builder each, listed in `TABLES`."""

from collections.abc import Callable, Mapping

from cross4d_cache.errors import SettingsError
from cross4d_train.evaluation.corruption import CORRUPTIONS
from cross4d_train.evaluation.finetune import FinetuneSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.table import Cell, Place, Table
from pipelines.experiment.tally import matches, parts
from pipelines.experiment.work import EvaluationRun, Student
from pipelines.paper import published
from pipelines.paper.benchmark import DENSE, GLOBAL, MAIN, UNTRAINED, Setup, family

RAW, STANDARDISED = "raw", "standardised"
Others = tuple[Setup, ...]
"""Setups of other recipes that have been run."""
Row = Mapping[str, Cell]
PART_MEASURES = {"mean IoU": "mean_iou", "mean accuracy": "mean_accuracy", "overall accuracy": "overall_accuracy"}
LABEL_FRACTIONS = FinetuneSettings.model_fields["fractions"].default


def probe_cells(run: EvaluationRun, raw: float | None = None, standardised: float | None = None) -> dict[str, Cell]:
    """Accuracy without and with standardisation; papers' numbers are without, unless they say otherwise."""
    return {
        name: Cell(runs=(run,), score=f"{name}.video_accuracy", predictions=f"{name}.predictions", published=paper)
        for name, paper in ((RAW, raw), (STANDARDISED, standardised))
    }


def match_cell(run: EvaluationRun, gap: int, matcher: str, paper: float | None = None) -> Cell:
    """The share of right matches across gap number `gap`."""
    return Cell(runs=(run,), score=f"scores.{gap}.{matcher}", tally=matches(gap, matcher), published=paper)


def probe_row(setup: Setup, student: Student, paper: float | None = None) -> dict[str, Cell]:
    """The probe of a student on the main store."""
    return probe_cells(setup.judge("probe", student), paper)


def table_1(setup: Setup, _: Others) -> Table:
    """The main comparison, and both controls of what the correspondence of points and patches is worth."""
    paper = published.PROBE.get(setup.benchmark.name, {})
    controls = setup.controls()
    rows = {
        UNTRAINED: probe_row(setup, setup.untrained(), paper.get(UNTRAINED)),
        "global, raw targets": probe_row(setup, setup.distilled_globally("none"), paper.get(GLOBAL)),
        "global, centred": probe_row(setup, setup.distilled_globally("center")),
        "dense, shuffled points": probe_row(setup, setup.dense(controls["shuffled"])),
        "dense, patch index": probe_row(setup, setup.dense(controls["position"])),
        "dense, raw targets": probe_row(setup, setup.dense(conditioning="none"), paper.get(DENSE)),
        "dense, centred": probe_row(setup, setup.dense(conditioning="center")),
        "dense, minus position mean": probe_row(setup, setup.dense(conditioning="center-patch")),
    }
    reference = "dense, raw targets" if setup.scale.conditioning == "none" else "dense, centred"
    return Table(number=1, columns=(RAW, STANDARDISED), rows=rows, reference=reference)


def table_2(setup: Setup, _: Others) -> Table:
    """Every teacher of this run; standardisation off."""
    rows: dict[str, Row] = {}
    for teacher in setup.teachers:
        store = setup.store_of(teacher)
        paper = published.TEACHERS.get(family(teacher), {}) if setup.benchmark.name == published.MSR else {}
        students = {
            GLOBAL: setup.student(f"{GLOBAL}-{store.name}", store, ObjectiveSettings(name="global", conditioning=setup.scale.conditioning)),
            DENSE: setup.student(f"{DENSE}-{store.name}", store, ObjectiveSettings(conditioning=setup.scale.conditioning)),
        }
        if store.name == MAIN:
            students = {GLOBAL: setup.distilled_globally(), DENSE: setup.dense()}
        rows[teacher] = {name: probe_row(setup, student, paper.get(name))[RAW] for name, student in students.items()}
    return Table(number=2, columns=(GLOBAL, DENSE), rows=rows, reference=setup.teacher, pairs=_dense_over_global(rows))


def table_3(setup: Setup, _: Others) -> Table:
    """Both backbones; standardisation off."""
    msr = setup.benchmark.name == published.MSR
    rows: dict[str, Row] = {}
    for encoder in (setup.scale.encoder, setup.scale.large[0]):
        paper = published.BACKBONES.get(encoder.name, {}) if msr else {}
        students = (setup.distilled_globally(), setup.dense())
        rows[encoder.name] = {
            name: probe_row(setup, _with_encoder(student, encoder, setup), paper.get(name))[RAW]
            for name, student in zip((GLOBAL, DENSE), students, strict=True)
        }
    return Table(number=3, columns=(GLOBAL, DENSE), rows=rows, reference=setup.scale.encoder.name, pairs=_dense_over_global(rows))


def table_4(setup: Setup, _: Others) -> Table:
    """Accuracy of the last epoch, and what the field quotes: that of the best epoch on the test videos."""
    msr = setup.benchmark.name == published.MSR
    rows: dict[str, dict[str, Cell]] = {}
    for name, student in ((UNTRAINED, setup.untrained()), (GLOBAL, setup.distilled_globally()), (DENSE, setup.dense())):
        paper = published.LABELS.get(name, {}) if msr else {}
        for fraction in LABEL_FRACTIONS:
            options = {"fractions": (fraction,), "num_epochs": setup.scale.tuning_epochs}
            run = setup.judge("finetune", student, options)
            rows.setdefault(name, {})[f"{fraction:.0%}"] = Cell(
                runs=(run,), score="scores.0.video_accuracy", predictions="scores.0.predictions", published=paper.get(fraction)
            )
            rows.setdefault(f"{name}, best test epoch", {})[f"{fraction:.0%}"] = Cell(runs=(run,), score="scores.0.best_test_epoch")
    columns = tuple(f"{fraction:.0%}" for fraction in LABEL_FRACTIONS)
    ordered = {name: rows[name] for name in sorted(rows, key=lambda name: "best" in name)}
    return Table(
        number=4,
        columns=columns,
        rows=ordered,
        reference=DENSE,
        untested=tuple(name for name in ordered if "best" in name),
        note="Best test epoch: of those at which test videos were looked at, chosen on them as the field does.",
    )


def table_5(setup: Setup, sources: Others, number: int = 5, column: str = RAW) -> Table:
    """This dataset's encoder and those of other recipes, on all their stores."""
    everything = (setup, *sources)
    names = [item.benchmark.name for item in everything]
    if len(set(names)) < len(names):
        raise SettingsError(
            f"two recipes of one dataset among {', '.join(names)}", expected="each dataset once", hint="leave one --other out"
        )
    rows: dict[str, dict[str, Cell]] = {}
    for source in (*everything, None):
        name, student = (UNTRAINED, setup.untrained()) if source is None else (source.benchmark.name, source.dense())
        for target in everything:
            # The untrained row of the paper is that of the standardised probe.
            paper = published.TRANSFER.get(name, {}).get(target.benchmark.name) if number == 12 or source is not None else None
            run = target.judge("probe", student).model_copy(update={"root": setup.out})
            rows.setdefault(name, {})[target.benchmark.name] = probe_cells(run, paper, paper)[column]
    return Table(
        number=number,
        columns=tuple(target.benchmark.name for target in everything),
        rows=rows,
        reference=setup.benchmark.name,
        note="" if sources else "Other datasets come from their recipes' folders: --other OUT.",
    )


def table_12(setup: Setup, sources: Others) -> Table:
    """Table 5 with standardised features."""
    return table_5(setup, sources, 12, STANDARDISED)


def table_6(setup: Setup, sources: Others) -> Table:
    """Mean IoU, mean and overall accuracy of a linear head a point on frozen encoders."""
    paper = published.SEGMENT if setup.benchmark.name == published.HOI4D else {}
    students = {UNTRAINED: setup.untrained(), GLOBAL: setup.distilled_globally(), DENSE: setup.dense()}
    students |= {f"{DENSE}, from {source.benchmark.name}": source.dense() for source in sources}
    rows = {}
    for name, student in students.items():
        run = setup.judge("segment", student, {"num_epochs": setup.scale.segment_epochs})
        rows[name] = {
            column: Cell(runs=(run,), score=score, tally=parts(score), published=paper.get(name) if score == "mean_iou" else None)
            for column, score in PART_MEASURES.items()
        }
    return Table(number=6, columns=tuple(PART_MEASURES), rows=rows, reference=DENSE)


def table_7(setup: Setup, _: Others) -> Table:
    """Objectives that have no teacher."""
    paper = published.OBJECTIVES if setup.benchmark.name == published.MSR else {}
    rows = {UNTRAINED: probe_row(setup, setup.untrained(), paper.get(UNTRAINED))}
    for name in ("uni4d", "mastpre", "ijepa"):
        rows[name] = probe_row(setup, setup.student(name, setup.store(), ObjectiveSettings(name=name)), paper.get(name))
    rows[DENSE] = probe_row(setup, setup.dense(), paper.get(DENSE))
    return Table(number=7, columns=(RAW, STANDARDISED), rows=rows, reference=DENSE)


def table_10(setup: Setup, _: Others) -> Table:
    """How targets are projected, and how large the images are."""
    kinds = ("random:768", "pca:384") if setup.scale_name == "paper" else ("pca:96",)
    rows = {"as built": probe_row(setup, setup.dense())}
    for kind in kinds:
        store = setup.store(f"project-{kind.replace(':', '-')}", projection=kind)
        rows[kind] = probe_row(setup, setup.dense(store), published.TARGETS.get(kind) if _is_msr(setup) else None)
    for size in setup.scale.render_sizes.get(family(setup.teacher), ()):
        store = setup.store(f"render-{size}", image_size=size)
        rows[f"{size} px"] = probe_row(setup, setup.dense(store), published.TARGETS.get(f"{size} px") if _is_msr(setup) else None)
    return Table(number=10, columns=(RAW, STANDARDISED), rows=rows, reference="as built")


def table_11(setup: Setup, _: Others) -> Table:
    """What standardisation does; the cells are those of table 1."""
    paper = published.STANDARDISATION if _is_msr(setup) else {}
    rows = {
        name: probe_cells(setup.judge("probe", student), *paper.get(name, (None, None)))
        for name, student in ((UNTRAINED, setup.untrained()), (DENSE, setup.dense()))
    }
    return Table(number=11, columns=(RAW, STANDARDISED), rows=rows, reference=DENSE)


def table_13(setup: Setup, _: Others) -> Table:
    """Heads trained on clean clips, asked on worse ones; standardised, and raw beside."""
    rows: dict[str, dict[str, Cell]] = {}
    columns = tuple(f"{corruption.kind}: {corruption}" for corruption in CORRUPTIONS)
    paper = published.CORRUPTED if _is_msr(setup) else {}
    for name, student in ((UNTRAINED, setup.untrained()), (DENSE, setup.dense())):
        run = setup.judge("robustness", student)
        for kind in (RAW, STANDARDISED):
            cells = {}
            for number, (corruption, column) in enumerate(zip(CORRUPTIONS, columns, strict=True)):
                known = paper.get(name, {}).get(corruption.kind) if kind == RAW else None
                cells[column] = Cell(
                    runs=(run,),
                    score=f"scores.{number}.{kind}",
                    predictions=f"scores.{number}.{kind}_predictions",
                    published=None if known is None else known[number % len(known)],
                )
            rows[f"{name}, {kind}"] = cells
    kinds = [(f"{DENSE}, {kind}", f"{UNTRAINED}, {kind}") for kind in (RAW, STANDARDISED)]
    pairs = tuple(((ours, column), (theirs, column)) for ours, theirs in kinds for column in columns if not column.endswith(": clean"))
    return Table(number=13, columns=columns, rows=rows, pairs=pairs)


def table_14(setup: Setup, _: Others) -> Table:
    """With and without the variance term."""
    rows = {}
    for weight in (1.0, 0.0):
        student = (
            setup.dense()
            if weight
            else setup.student(
                "dense-no-variance", setup.store(), ObjectiveSettings(conditioning=setup.scale.conditioning, variance_weight=0.0)
            )
        )
        rows[f"lambda {weight:g}"] = probe_row(setup, student, published.VARIANCE[weight] if _is_msr(setup) else None)
    return Table(number=14, columns=(RAW, STANDARDISED), rows=rows, reference="lambda 1")


def table_15(setup: Setup, _: Others) -> Table:
    """One, two and four cameras around the subject."""
    rows = {}
    for views in (1, 2, 4):
        student = setup.dense(setup.store(f"views-{views}", views=views)) if views > 1 else setup.dense()
        rows[f"{views} camera{'s' if views > 1 else ''}"] = probe_row(setup, student, published.CAMERAS[views] if _is_msr(setup) else None)
    return Table(number=15, columns=(RAW, STANDARDISED), rows=rows, reference="1 camera")


def table_16(setup: Setup, _: Others) -> Table:
    """Nearest features across a gap of frames against true tracks; matching by place is the raw row."""
    paper = published.CORRESPONDENCE if setup.benchmark.name == published.DT4D else {}
    gaps = setup.scale.gaps
    students = {UNTRAINED: setup.untrained(), GLOBAL: setup.distilled_globally(), DENSE: setup.dense()}
    rows: dict[str, dict[str, Cell]] = {}
    for name, student in students.items():
        run = setup.judge("correspondence", student, {"gaps": gaps})
        for number, gap in enumerate(gaps):
            for row, matcher in ((name, "features"), ("raw coordinates", "coordinates"), ("a random point", "chance")):
                rows.setdefault(row, {})[f"gap {gap}"] = match_cell(run, number, matcher, paper.get(row, {}).get(gap))
    return Table(number=16, columns=tuple(f"gap {gap}" for gap in gaps), rows=rows, reference=DENSE)


def table_17(setup: Setup, _: Others) -> Table:
    """Segmentation with the encoder trained too."""
    paper = published.END_TO_END if setup.benchmark.name == published.HOI4D else {}
    rows = {}
    for name, student in ((UNTRAINED, setup.untrained()), (DENSE, setup.dense())):
        run = setup.judge("segment", student, {"num_epochs": setup.scale.segment_epochs, "end_to_end": True})
        rows[name] = {"mean IoU": Cell(runs=(run,), score="mean_iou", tally=parts("mean_iou"), published=paper.get(name))}
    return Table(number=17, columns=("mean IoU",), rows=rows, reference=DENSE)


def table_18(setup: Setup, _: Others) -> Table:
    """The global baseline of every teacher on both backbones; standardisation off."""
    rows: dict[str, dict[str, Cell]] = {}
    for encoder in (setup.scale.encoder, setup.scale.large[0]):
        for teacher in setup.teachers:
            store = setup.store_of(teacher)
            student = setup.distilled_globally()
            if store.name != MAIN:
                student = setup.student(
                    f"{GLOBAL}-{store.name}", store, ObjectiveSettings(name="global", conditioning=setup.scale.conditioning)
                )
            paper = published.GLOBAL.get(encoder.name, {}).get(family(teacher)) if _is_msr(setup) else None
            rows.setdefault(encoder.name, {})[teacher] = probe_row(setup, _with_encoder(student, encoder, setup), paper)[RAW]
    return Table(number=18, columns=tuple(setup.teachers), rows=rows, reference=setup.scale.encoder.name)


def table_20(setup: Setup, _: Others) -> Table:
    """The large backbone as it is, with a norm at its end, with finer tokens."""
    rows = {}
    for encoder, (name, label) in zip(
        setup.scale.large, (("paper", "as published"), ("norm", "with a last norm"), ("fine", "finer tokens")), strict=True
    ):
        paper = published.LARGE[name] if _is_msr(setup) else None
        rows[label] = probe_row(setup, _with_encoder(setup.dense(), encoder, setup), paper)
    return Table(number=20, columns=(RAW, STANDARDISED), rows=rows, reference="as published")


Builder = Callable[[Setup, Others], Table]

TABLES: dict[int, Builder] = {
    1: table_1,
    2: table_2,
    3: table_3,
    4: table_4,
    5: table_5,
    6: table_6,
    7: table_7,
    10: table_10,
    11: table_11,
    12: table_12,
    13: table_13,
    14: table_14,
    15: table_15,
    16: table_16,
    17: table_17,
    18: table_18,
    20: table_20,
}


def _with_encoder(student: Student, encoder: EncoderSettings, setup: Setup) -> Student:
    """The same student with another encoder, under a name of its own."""
    if student.settings is None or encoder == setup.scale.encoder:
        return student
    settings = student.settings.model_copy(update={"encoder": encoder})
    return student.model_copy(update={"name": f"{student.name}-{encoder.name}-{encoder.size}", "settings": settings})


def _dense_over_global(rows: Mapping[str, Row]) -> tuple[tuple[Place, Place], ...]:
    return tuple(((row, DENSE), (row, GLOBAL)) for row in rows)


def _is_msr(setup: Setup) -> bool:
    return setup.benchmark.name == published.MSR
