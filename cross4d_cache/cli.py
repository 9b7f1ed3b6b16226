"""The command `cross4d-cache`. Heavy imports happen inside the commands, so that `--help` answers at once."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cross4d_cache.errors import DatasetError, SettingsError, user_errors
from cross4d_cache.local import local_path
from cross4d_cache.usage import Commands

if TYPE_CHECKING:
    from cross4d_cache.store import CacheWriter

app = typer.Typer(
    cls=Commands,
    help="Stage one: point-cloud sequences -> rendered frames -> frozen 2D teacher -> per-point targets in a Zarr store.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress; notes and errors stay.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
DatasetName = Annotated[str, typer.Option(help="synthetic, msr_action3d, deforming_things4d, ntu_rgbd, hoi4d, or folder: your own files.")]
Data = Annotated[Path | None, typer.Option(help="Folder of the raw data.")]
Option = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the dataset; repeatable.")]
Store = Annotated[str, typer.Argument(metavar="STORE", help="A store: folder, zip, or either at http://, https:// or s3://.")]


OPTIONS = {"correspondence": "--correspondence"}
"""How settings that messages name are called here."""

NewStore = Annotated[
    Path,
    typer.Argument(metavar="OUT", parser=local_path, help="Folder of the new store. An unfinished or damaged one is resumed."),
]


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()


@app.command()
def build(
    teacher: Annotated[
        str,
        typer.Option(help="Frozen teacher: tiny, dinov2, dinov3, vjepa2, videomae, hf, position; `teachers` lists all."),
    ] = "tiny",
    weights: Annotated[
        str | None,
        typer.Option(help="Hub id[@REVISION], folder, original checkpoint, or `random`; default: the published weights."),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Block whose output is taken, from 1; default: the last.")] = None,
    dataset: DatasetName = "synthetic",
    data: Data = None,
    option: Option = None,
    out: Annotated[Path, typer.Option(parser=local_path, help="Store to write. An unfinished store is resumed.")] = Path("store.zarr"),
    image_size: Annotated[int | None, typer.Option(help="Side of the rendered images, px; default: the model's own.")] = None,
    image_mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="R G B", help="Mean that normalises images in [0, 1]; default: as the weights say."),
    ] = None,
    image_std: Annotated[tuple[float, float, float] | None, typer.Option(metavar="R G B", help="Deviation, likewise.")] = None,
    window: Annotated[int, typer.Option(help="Frames a video teacher sees at once.")] = 16,
    camera_model: Annotated[
        str, typer.Option(help="pinhole, around the subject; or spherical, at the sensor, for LiDAR scans that go all round.")
    ] = "pinhole",
    camera: Annotated[
        str,
        typer.Option(help="sequence or window:FRAMES: how long cameras stand still; or sensor: at the real one's place."),
    ] = "sequence",
    views: Annotated[int | None, typer.Option(help="Cameras; default: 1, of spherical ones 8, which share the whole turn.")] = None,
    visibility: Annotated[
        str, typer.Option(help="surface: what lies on the nearest surface is visible; or winner: only the nearest point of each pixel.")
    ] = "surface",
    points: Annotated[int, typer.Option(help="Most points kept of a frame.")] = 4096,
    project: Annotated[str, typer.Option(help="random:CHANNELS, pca:CHANNELS or none.")] = "random:384",
    correspondence: Annotated[
        str,
        typer.Option(help="zbuffer; or, as controls, targets of other points (shuffled), patches (random), places (shifted:PIXELS)."),
    ] = "zbuffer",
    limit: Annotated[int | None, typer.Option(help="Only the first N sequences.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Leave a sequence out; repeatable.")] = None,
    batch: Annotated[int | None, typer.Option(help="Frames in a batch; default: 32, on CUDA 256.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of point thinning, projection, random weights and controls.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a store, or go on with one that was interrupted."""
    from cross4d_cache.build.engines.local import Build
    from cross4d_cache.build.fitting import ProjectionFit
    from cross4d_cache.build.plan import BuildSettings, plan_build
    from cross4d_cache.build.selection import remarks, select_sequences
    from cross4d_cache.console import count, follow, note_blind, note_sides, on_device, print_result, say, summary, warn_random
    from cross4d_cache.datasets import open_dataset
    from cross4d_cache.rendering.device import choose_device
    from cross4d_cache.report.extent import of_dataset
    from cross4d_cache.store import check_place, open_cache
    from cross4d_cache.teachers import load_teacher

    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the hub's client is imported
    chosen = choose_device(device)
    settings = BuildSettings(
        points_per_frame=points,
        camera_model=camera_model,
        camera=camera,
        visibility=visibility,
        views=(8 if camera_model == "spherical" else 1) if views is None else views,
        projection=project,
        correspondence=correspondence,
        seed=seed,
        batch_frames=(256 if chosen.type == "cuda" else 32) if batch is None else batch,
        limit=limit,
        exclude=tuple(exclude or ()),
    )
    check_place(out)
    source = open_dataset(dataset, data, _options(option or []))
    count(source.scanning(), unit="sequence", desc="listing", quiet=quiet)
    select_sequences(source, exclude=settings.exclude, limit=settings.limit)  # before a large model is loaded
    for remark in remarks(source):
        say(f"note: {remark}")
    normalisation = {"image_mean": image_mean, "image_std": image_std}
    model = load_teacher(teacher, weights, image_size=image_size, window=window, layer=layer, device=chosen, seed=seed, **normalisation)
    fit = ProjectionFit(source, model, settings, out)
    if fit.num_frames:
        follow(
            ((done, "") for done in fit.run()),
            total=fit.num_frames,
            unit="frame",
            desc="fit projection",
            quiet=quiet,
            advice=on_device(chosen.type),
        )
    plan = plan_build(source, model, settings, fit.matrix)
    say(f"device {chosen} (choose with --device); teacher {model.spec.name}, weights {model.spec.weights}, {model.spec.dtype}")
    warn_random(plan.manifest)
    sequences, rules = [info for part in plan.parts for info in part], plan.manifest.render
    extent = of_dataset(source, sequences, rules, model.spec.patch_size)
    for line in extent.report(source.options.model_dump(mode="json"), spherical=rules.camera_model == "spherical") if extent else ():
        say(line)
    run = Build(source, model, plan, out)
    _check_finished(run.writer, quiet=quiet)
    steps = ((progress.frames_done, progress.note) for progress in run.run())
    follow(steps, total=plan.manifest.plan.num_frames, unit="frame", desc="build", quiet=quiet, advice=on_device(chosen.type))
    finished = open_cache(out)
    note_sides(finished)
    note_blind(finished)
    print_result({**run.progress.report(), **summary(finished)}, as_json)


@app.command("check-data")
def check_data(
    dataset: DatasetName,
    data: Data = None,
    option: Option = None,
    read_all: Annotated[bool, typer.Option("--read-all", help="Read every frame, not only names, headers and a few sequences.")] = False,
    points: Annotated[int, typer.Option(min=1, help="Of the build whose store is estimated.")] = 4096,
    views: Annotated[int, typer.Option(min=1, help="Of the build whose store is estimated.")] = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What a folder of raw data holds: what is there, what is missing, what is damaged, and how large its store will be."""
    from cross4d_cache.console import count, print_result, show
    from cross4d_cache.datasets import open_dataset
    from cross4d_cache.datasets.files import FileDataset
    from cross4d_cache.progress import progress
    from cross4d_cache.report.check_data import as_record, choose, describe, disk_bytes, inspect, read_through

    source = open_dataset(dataset, data, _options(option or []))
    if not isinstance(source, FileDataset):
        raise SettingsError(
            f"dataset {dataset} is generated, there are no files to check", expected="a dataset of files", hint="pass --dataset"
        )
    count(source.scanning(), unit="sequence", desc="listing", quiet=quiet)
    chosen = choose(source, read_all=read_all)
    reading = progress(read_through(source, chosen), total=len(chosen), unit="sequence", desc="read", quiet=quiet)
    results = [result for result, _ in reading]
    size = count(disk_bytes(source.root), unit="B", desc="sizes", quiet=quiet)
    inspection = inspect(source, results, disk_bytes=size, kept_points=points, views=views)
    if as_json:
        print_result(as_record(inspection, source), as_json)
    else:
        show(describe(inspection, source))
    if inspection.damaged:
        raise DatasetError(f"{source.root}: {len(inspection.damaged)} damaged, see the report", hint="fix or fetch them, or leave them out")
    source.sequences()  # an empty folder is an error too


@app.command()
def info(
    store: Store,
    fidelity: Annotated[bool, typer.Option("--fidelity", help="Measure on a sample how well targets belong to their points.")] = False,
    read_all: Annotated[bool, typer.Option("--read-all", help="Take the extent of every sequence, not of eight.")] = False,
    data: Data = None,
    option: Option = None,
    png: Annotated[
        Path | None, typer.Option("--png", parser=local_path, help="Also draw it: lengths, actions by split, coverage, a frame.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What a store is: teacher, coverage, sizes, splits; instant, also for one that is not finished."""
    from cross4d_cache.console import note_blind, note_newer, note_sides, print_overview, print_result, show, summary, warn_random
    from cross4d_cache.progress import progress
    from cross4d_cache.report.extent import of_store, sample
    from cross4d_cache.store import open_cache

    cache = open_cache(store, allow_partial=not fidelity)
    note_newer(cache)
    warn_random(cache.manifest)
    note_sides(cache)
    note_blind(cache)
    if png is not None:
        from cross4d_cache.report.picture import draw_summary

        draw_summary(cache, png)
    if not fidelity:
        rules, options = cache.manifest.render, cache.manifest.reader_options
        chosen = range(len(cache.sequences)) if read_all else sample(cache)
        indices = (index for index, _ in progress(chosen, total=len(chosen), unit="sequence", desc="extent", quiet=quiet or not read_all))
        extent = of_store(cache, indices)
        if as_json:
            print_result({**summary(cache), "extent": None if extent is None else extent.as_record()}, as_json)
            return
        print_result(summary(cache), as_json)
        show(extent.report(options, spherical=rules.camera_model == "spherical") if extent else [""])
        print_overview(cache)
        return
    from dataclasses import asdict

    from cross4d_cache.console import count, follow
    from cross4d_cache.datasets import DATASETS, open_dataset
    from cross4d_cache.report.fidelity import Fidelity, describe

    record, dataset = cache.manifest.dataset, None
    if data is not None or (record.name in DATASETS and not DATASETS[record.name].needs_root):
        dataset = open_dataset(record.name, data, {**cache.manifest.reader_options, **_options(option or [])})
        count(dataset.scanning(), unit="sequence", desc="listing", quiet=quiet)
    measure = Fidelity(cache, dataset, why_no_dataset="meshes lie in the folder of the raw data: pass --data")
    follow(((done, "") for done in measure.run()), total=len(measure.sample), unit="sequence", desc="measure", quiet=quiet)
    if as_json:
        print_result(asdict(measure.report), as_json)
    else:
        show(describe(measure.report))


@app.command()
def teachers(as_json: Json = False) -> None:
    """The teachers that have names: parameters, pixels of a patch, frames of a tubelet, pixels of an image, and the weights published."""
    from dataclasses import asdict

    from cross4d_cache.catalogue import CATALOGUE
    from cross4d_cache.console import print_table

    print_table([asdict(teacher) for teacher in CATALOGUE.values()], as_json)


@app.command()
def verify(store: Store, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compare every byte of a finished store with the hashes taken when it was written, and say what fixes what is damaged."""
    from cross4d_cache.console import follow, print_result, say
    from cross4d_cache.join import count_of, first_of
    from cross4d_cache.store import PartCheck, open_cache
    from cross4d_cache.store import verify as check_parts
    from cross4d_cache.store.verify import refuse, report

    cache, checks = open_cache(store), list[PartCheck]()

    def steps() -> Iterator[tuple[int, str]]:
        for check in check_parts(cache):
            checks.append(check)
            damaged = sum(bool(found.problems) for found in checks)
            yield sum(found.num_bytes for found in checks), f"{damaged} damaged" if damaged else ""

    follow(steps(), total=sum(part.bytes for part in cache.manifest.parts), unit="B", desc="verify", quiet=quiet)
    result = report(cache, checks)
    if result["strays"]:
        say(f"note: {count_of(result['strays'], 'file')} of something else, which no reader looks at: {first_of(result['strays'])}")
    if as_json or result["intact"]:
        print_result(result, as_json)
    refuse(cache, checks)


@app.command()
def merge(
    out: NewStore,
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores of the same settings.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The union of several stores of the same settings; parts become hard links where they can."""
    from cross4d_cache.console import follow, note_newer, print_result, summary
    from cross4d_cache.sharing.merge import Merge
    from cross4d_cache.store import open_cache

    caches = [open_cache(store) for store in stores]
    for cache in caches:
        note_newer(cache)
    run = Merge(out, caches)
    _check_finished(run.writer, quiet=quiet)
    follow(((done, "") for done in run.run()), total=run.total, unit="B", desc="merge", quiet=quiet)
    print_result(summary(open_cache(out)), as_json)


@app.command()
def subset(
    out: NewStore,
    store: Store,
    split: Annotated[str | None, typer.Option("--split", help="train, test, unsplit (in no split), train+unsplit.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="Of which protocol; default: the dataset's first.")] = None,
    action: Annotated[list[str] | None, typer.Option("--action", help="Name or number; repeatable.")] = None,
    sequences: Annotated[Path | None, typer.Option("--sequences", help="File with the id of a sequence on every line.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The sequences of a store that meet all conditions, as a store of their own."""
    from cross4d_cache.console import follow, note_newer, print_result, say, summary
    from cross4d_cache.sharing.subset import Selection, Subset, read_ids
    from cross4d_cache.store import open_cache

    cache = open_cache(store)
    note_newer(cache)
    ids = None if sequences is None else read_ids(sequences)
    run = Subset(out, cache, Selection(cache, split=split, protocol=protocol, actions=action or (), ids=ids))
    if run.left_out:
        say(f"note: arrays of a newer release cannot be cut here, and are left out: {', '.join(run.left_out)}")
    _check_finished(run.writer, quiet=quiet)
    follow(((done, "") for done in run.run()), total=run.total, unit="part", desc="subset", quiet=quiet)
    print_result(summary(open_cache(out)), as_json)


@app.command()
def derive(
    store: Store,
    out: NewStore,
    correspondence: Annotated[str, typer.Option(help="shuffled: targets of other points of the same frame.")] = "shuffled",
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The control of a store, as `build` with this --correspondence makes it, but in seconds and without the teacher.

    Only patch slots differ; the other files become hard links where they can.
    """
    from cross4d_cache.console import follow_work, print_result, summary
    from cross4d_cache.sharing.derive import derive

    print_result(summary(follow_work(derive(store, out, correspondence), OPTIONS, quiet=quiet)), as_json)


@app.command()
def pack(
    store: Store,
    out: Annotated[Path, typer.Argument(metavar="FILE.zip", parser=local_path, help="The file, which every command reads in place.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """A finished store as one file. `pull FILE.zip FOLDER` makes it a folder again."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.sharing.pack import Pack
    from cross4d_cache.store import open_cache

    run = Pack(open_cache(store), out)
    follow(((done, "") for done in run.run()), total=run.total, unit="B", desc="pack", quiet=quiet)
    print_result({"file": str(out), "bytes": out.stat().st_size}, as_json)


@app.command()
def pull(
    store: Store,
    out: NewStore,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", metavar="MINUTES", help="How long a server that is away is waited for; default: CROSS4D_WAIT_MINUTES, or 10."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Copy a store from elsewhere, checked, and go on where an earlier copy was interrupted."""
    from cross4d_cache.console import follow, print_result, summary
    from cross4d_cache.sharing.pull import Pull
    from cross4d_cache.store import open_cache

    run = Pull(store, out, wait_minutes=wait)
    follow(((done, "") for done in run.run()), total=run.total, unit="B", desc="pull", quiet=quiet)
    print_result(summary(open_cache(out)), as_json)


def _check_finished(writer: "CacheWriter", *, quiet: bool) -> None:
    """Of a store that is finished, take out what is damaged, so that it is made again."""
    from cross4d_cache.console import follow
    from cross4d_cache.store import mark_damaged

    if writer.complete:
        total = sum(part.bytes for part in writer.manifest.parts)
        follow(((done, "") for done in mark_damaged(writer)), total=total, unit="B", desc="verify", quiet=quiet)


def _options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise SettingsError(f"--option {pair}", expected="KEY=VALUE", hint="see docs/quickstart.md")
    return dict(pair.split("=", 1) for pair in pairs)
