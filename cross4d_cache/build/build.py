"""A build, from a request to a finished store: what `cross4d-cache build` does, for recipes, notebooks and workers as well."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cross4d_cache.build.engines.local import Build, BuildProgress
from cross4d_cache.build.extent import of_dataset
from cross4d_cache.build.fitting import ProjectionFit
from cross4d_cache.build.plan import BuildPlan, plan_build
from cross4d_cache.build.request import BuildRequest, DatasetRequest, TeacherRequest
from cross4d_cache.build.selection import remarks, select_sequences
from cross4d_cache.build.turns import Shard
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.rendering.device import choose_devices
from cross4d_cache.store import check_place
from cross4d_cache.store.verify import check_finished
from cross4d_cache.teachers import load_teacher
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.work import Advice, Remark, Stage, Step, Work, steps


@dataclass(frozen=True, kw_only=True)
class PreparedBuild:
    """A request whose dataset is listed, whose teacher is loaded, on `others` of several devices as well, and whose plan is made."""

    dataset: Dataset
    teacher: Teacher
    plan: BuildPlan
    others: tuple[Teacher, ...] = ()


def build_store(
    request: BuildRequest,
    out: Path,
    *,
    device: str = "auto",
    num_devices: int = 1,
    num_workers: int | None = None,
    shard: Shard | None = None,
) -> Work[BuildProgress]:
    """Build the store of a request at `out`, or resume one that was interrupted. Of a finished one, what is damaged is made again.

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`; `num_devices` GPUs of this machine share the work; `num_workers`
    processes read, with 0 threads of this one, with None what helps. Several builders of the same request may be at work on one store, on
    machines that share a file system: each looks for parts that no other has made. Of a `shard` only its parts are made.

    Raises:
        CacheMismatchError: the store at `out` is of another request.
        DatasetError: the raw data are missing or damaged; parts that are committed stay.
        OutputError: the store cannot be written.
        SettingsError: settings that are unknown, or do not go together or with the data.
        TeacherError: the weights cannot be had, or their features do not fit float16.
        WorkerError: a process that reads cannot be started, was killed, or gives no answer.
    """
    check_place(out)
    prepared = yield from prepare_build(request, out, device=device, num_devices=num_devices, num_workers=num_workers)
    yield from _announce(prepared)
    run = Build(prepared.dataset, prepared.teacher, prepared.plan, out, num_workers, prepared.others, shard)
    yield from check_finished(run.writer)
    stage = Stage(name="build", unit="frame", total=run.num_frames(run.share), advice=_advice(prepared.teacher))
    for progress in run.run():
        yield Step(stage=stage, done=progress.frames_done, note=progress.note)
    if shard is not None:
        yield _about_shard(run, shard)
    return run.progress


def prepare_build(
    request: BuildRequest, out: Path, *, device: str = "auto", num_devices: int = 1, num_workers: int | None = None
) -> Work[PreparedBuild]:
    """List the dataset, load the teacher, fit the projection if it is fitted (the store at `out` may have it), and plan.

    Raises:
        Cross4DError: as `build_store`.
    """
    settings, devices = request.settings, choose_devices(device, num_devices)
    dataset = yield from listed(request.dataset)
    select_sequences(dataset, exclude=settings.exclude, limit=settings.limit)  # before a large model is loaded
    for remark in remarks(dataset):
        yield Remark(f"note: {remark}")
    teacher, *others = (load(request.teacher, device=str(chosen), seed=settings.seed) for chosen in devices)
    fit = ProjectionFit(dataset, teacher, settings, out)
    if fit.num_frames:
        yield from steps(Stage(name="fit projection", unit="frame", total=fit.num_frames, advice=_advice(teacher)), fit.run(num_workers))
    plan = plan_build(dataset, teacher, settings, fit.matrix)
    return PreparedBuild(dataset=dataset, teacher=teacher, plan=plan, others=tuple(others))


def listed(request: DatasetRequest) -> Work[Dataset]:
    """Open a dataset and list its sequences.

    Raises:
        DatasetError: the folder is missing.
        SettingsError: unknown dataset or option.
    """
    dataset = open_dataset(request.name, request.root, request.options)
    yield from steps(Stage(name="listing", unit="sequence", delay=2.0), dataset.scanning())
    return dataset


def load(request: TeacherRequest, *, device: str, seed: int) -> Teacher:
    """The teacher of a request.

    Raises:
        SettingsError: unknown teacher.
        TeacherError: the weights cannot be had or do not fit.
    """
    return load_teacher(device=device, seed=seed, **request.model_dump())


def _announce(prepared: PreparedBuild) -> Iterator[Remark]:
    """Where a build runs, its teacher, and how large the subjects look to it."""
    spec, rules = prepared.teacher.spec, prepared.plan.manifest.render
    devices = ", ".join(str(teacher.device) for teacher in (prepared.teacher, *prepared.others))
    yield Remark(f"device {devices} (choose with `device`); teacher {spec.name}, weights {spec.weights}, {spec.dtype}")
    if spec.is_random:
        yield Remark(spec.warning)
    sequences = [info for part in prepared.plan.parts for info in part]
    extent = of_dataset(prepared.dataset, sequences, rules, spec.patch_size)
    if extent is not None:
        options = prepared.dataset.options.model_dump(mode="json")
        yield from map(Remark, extent.report(options, spherical=rules.camera_model == "spherical"))


def _about_shard(run: Build, shard: Shard) -> Remark:
    """What a shard has made of the store, and what makes the rest."""
    count, missing = len(run.plan.parts), len(run.writer.missing())
    share = f"shard {shard}: its {len(run.share)} of {count} parts are made; "
    if not missing:
        return Remark(share + "with those of the others the store is finished")
    return Remark(share + f"still missing: {missing}. When all shards have ended, the same command without `shard` makes what is left")


def _advice(teacher: Teacher) -> Advice:
    """What is said of work that takes long on the teacher's device."""
    return lambda seconds: " on this GPU" if teacher.device.type == "cuda" else " on this CPU; a GPU is faster"
