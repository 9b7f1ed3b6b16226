"""Does it matter which patch a point is given? Dense distillation against its two controls, in ways that could tell them apart.

    python -m pipelines.assignment --data DIR [--out out/msr_action3d] [--tables 1,2] [--seeds 5] [--teacher hf=FOLDER]

MSR-Action3D. In every table the same students learn the targets of their own points, of shuffled points of the frame, and random vectors
of patch indices. Stores, students and results are shared with `pipelines.msr_action3d` where the folder is the same. What the same students
know of single points is asked by `pipelines.bodies` and `pipelines.scans`.
"""

from cross4d_cache.errors import SettingsError
from cross4d_train.augment import Augmentation
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings
from pipelines.experiment.table import Table
from pipelines.experiment.work import Student
from pipelines.msr_action3d import BENCHMARK
from pipelines.paper.benchmark import UNTRAINED, Setup
from pipelines.paper.recipe import main
from pipelines.paper.tables import RAW, STANDARDISED, Builder, Others, probe_cells

REFERENCE, SHUFFLED, POSITION = "its own point's", "a shuffled point's", "a patch index"


def compare(setup: Setup, number: int, title: str, students: dict[str, Student], pooling: str | None = None) -> Table:
    """A table of probes."""
    options = {} if pooling is None else {"pooling": pooling}
    rows = {name: probe_cells(setup.judge("probe", student, options)) for name, student in students.items()}
    return Table(number=number, title=title, columns=(RAW, STANDARDISED), rows=rows, reference=REFERENCE)


def assigned(setup: Setup, conditioning: str | None = None) -> dict[str, Student]:
    """The students that differ in what a point is given, and in nothing else."""
    controls = setup.controls()
    return {
        REFERENCE: setup.dense(conditioning=conditioning),
        SHUFFLED: setup.dense(controls["shuffled"], conditioning),
        POSITION: setup.dense(controls["position"], conditioning),
    }


def as_in_table_1(setup: Setup, _: Others) -> Table:
    """The rows of table 1 once more."""
    return compare(setup, 1, "Targets centred, as in table 1", assigned(setup))


def minus_position_mean(setup: Setup, _: Others) -> Table:
    """Without the mean of each patch index, position alone predicts nothing of a target; of the patch index nothing would be left."""
    students = {
        REFERENCE: setup.dense(conditioning="center-patch"),
        SHUFFLED: setup.dense(setup.controls()["shuffled"], conditioning="center-patch"),
    }
    return compare(setup, 2, "Minus the mean of each patch index", students)


def coarser_patches(setup: Setup, _: Others) -> Table:
    """Images of 9 x 9 patches in place of 14 x 14."""
    return compare(setup, 3, "9 x 9 patches", _with_patches(setup, 9))


def finer_patches(setup: Setup, _: Others) -> Table:
    """A larger teacher input: 21 x 21 patches in place of 14 x 14."""
    return compare(setup, 6, "21 x 21 patches", _with_patches(setup, 21))


def whitened(setup: Setup, _: Others) -> Table:
    """The default conditioning: 32 principal components of equal variance."""
    return compare(setup, 7, "Targets whitened to 32 components", assigned(setup, "whiten:32"))


def baselines(setup: Setup, _: Others) -> Table:
    """The default conditioning against students of table 1 that no dense target was given to."""
    students = {
        UNTRAINED: setup.untrained(),
        "global, raw targets": setup.distilled_globally("none"),
        "global, centred": setup.distilled_globally("center"),
        REFERENCE: setup.dense(conditioning="whiten:32"),
    }
    return compare(setup, 8, "Targets whitened to 32 components, against the baselines", students)


def pooled_by_maximum(setup: Setup, _: Others) -> Table:
    """Mean and maximum of the tokens side by side: what single tokens know is not averaged away."""
    students = {
        UNTRAINED: setup.untrained(),
        "global, raw targets": setup.distilled_globally("none"),
        "global, centred": setup.distilled_globally("center"),
        **assigned(setup),
    }
    return compare(setup, 9, "Tokens pooled by mean and maximum", students, pooling="mean+max")


def against_global(setup: Setup, _: Others) -> Table:
    """Minus the mean of each patch index, against the global student alone: two students a seed, so that there can be many seeds."""
    students = {
        "global, centred": setup.distilled_globally("center"),
        REFERENCE: setup.dense(conditioning="center-patch"),
    }
    return compare(setup, 10, "Minus the mean of each patch index, against the global student", students)


def _with_patches(setup: Setup, side: int) -> dict[str, Student]:
    """Students of teachers with patches of 16 px; those of `position` have 8."""
    if setup.teacher != "hf":
        raise SettingsError(
            f"{side} x {side} patches of teacher {setup.teacher}", expected="hf, with patches of 16 px", hint="leave it out"
        )
    own = setup.store(f"render-{16 * side}", image_size=16 * side)
    stores = {
        REFERENCE: own,
        SHUFFLED: own.shuffled(f"shuffled-{16 * side}"),
        POSITION: setup.patch_indices(f"position-{8 * side}", 8 * side),
    }
    return {name: setup.dense(store) for name, store in stores.items()}


def longer(setup: Setup, _: Others) -> Table:
    """Twice as many epochs."""
    return compare(setup, 4, "Twice the epochs", _changed(setup, "twice", num_epochs=2 * setup.scale.num_epochs))


def finer_tokens(setup: Setup, _: Others) -> Table:
    """The next larger encoder, with more tokens a frame."""
    return compare(setup, 5, "More tokens a frame", _changed(setup, "small", encoder=EncoderSettings(size="small")))


def finer_tokens_whitened(setup: Setup, _: Others) -> Table:
    """The next larger encoder once more, with the default conditioning."""
    students = _changed(setup, "small", "whiten:32", encoder=EncoderSettings(size="small"))
    return compare(setup, 12, "Targets whitened to 32 components, more tokens a frame", students)


def whitened_minus_position_mean(setup: Setup, _: Others) -> Table:
    """Without the mean of each patch index, what is left whitened. Of patch indices nothing would be left: their student is that of
    table 7.
    """
    controls = setup.controls()
    students = {
        REFERENCE: setup.dense(conditioning="whiten-patch:32"),
        SHUFFLED: setup.dense(controls["shuffled"], conditioning="whiten-patch:32"),
        POSITION: setup.dense(controls["position"], conditioning="whiten:32"),
    }
    return compare(setup, 13, "Minus the mean of each patch index, whitened to 32 components", students)


def augmented(setup: Setup, _: Others) -> Table:
    """Clips turned by any angle about the vertical, tilted and scaled, their targets untouched: coordinates no longer say where in the
    image a point lies. Heads are trained and asked on clips as they are.
    """
    turned = Augmentation(yaw_degrees=180, tilt_degrees=15, scale=0.1)
    students = {
        name: student.model_copy(
            update={
                "name": f"{student.name}-turned",
                "settings": student.settings.model_copy(update={"augmentation": turned}),
            }
        )
        for name, student in assigned(setup, "whiten:32").items()
        if student.settings is not None
    }
    return compare(setup, 11, "Targets whitened to 32 components, clips turned and scaled", students)


def _changed(
    setup: Setup, label: str, conditioning: str | None = None, *, encoder: EncoderSettings | None = None, **training: object
) -> dict[str, Student]:
    controls = setup.controls()
    stores = {REFERENCE: setup.store(), SHUFFLED: controls["shuffled"], POSITION: controls["position"]}
    objective = ObjectiveSettings(conditioning=conditioning or setup.scale.conditioning)
    return {
        name: setup.student(f"{store.name}-{objective.conditioning}-{label}", store, objective, encoder=encoder, **training)
        for name, store in stores.items()
    }


VARIANTS: dict[int, Builder] = {
    1: as_in_table_1,
    2: minus_position_mean,
    3: coarser_patches,
    4: longer,
    5: finer_tokens,
    6: finer_patches,
    7: whitened,
    8: baselines,
    9: pooled_by_maximum,
    10: against_global,
    11: augmented,
    12: finer_tokens_whitened,
    13: whitened_minus_position_mean,
}

if __name__ == "__main__":
    main(
        BENCHMARK.model_copy(update={"tables": tuple(VARIANTS), "figures": (), "scales": {"small": BENCHMARK.scales["small"]}}),
        __doc__,
        builders=VARIANTS,
        name="assignment",
    )
