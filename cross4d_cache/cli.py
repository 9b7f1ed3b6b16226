"""The command `cross4d-cache`: it translates options into requests, and settings in messages back into options.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.errors import SettingsError, user_errors
from cross4d_cache.local import local_path
from cross4d_cache.usage import Commands

OPTIONS = {
    "dataset.name": "--dataset",
    "dataset.root": "--data",
    "dataset.options": "--option",
    "teacher.name": "--teacher",
    "teacher.weights": "--weights",
    "teacher.layer": "--layer",
    "teacher.image_size": "--image-size",
    "teacher.image_mean": "--image-mean",
    "teacher.image_std": "--image-std",
    "teacher.window": "--window",
    "points_per_frame": "--points",
    "camera_model": "--camera-model",
    "camera": "--camera",
    "views": "--views",
    "visibility": "--visibility",
    "projection": "--project",
    "correspondence": "--correspondence",
    "limit": "--limit",
    "exclude": "--exclude",
    "batch_frames": "--batch-size",
    "seed": "--seed",
    "device": "--device",
    "out": "--out",
    "png": "--png",
    "split": "--split",
    "protocol": "--protocol",
    "actions": "--action",
    "sequences": "--sequences",
}
"""What settings are called here."""

app = typer.Typer(
    cls=Commands,
    help="Stage one: point-cloud sequences -> rendered frames -> frozen 2D teacher -> per-point targets in a Zarr store.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DATA, TEACHER, IMAGES, RUNNING = "Data", "Teacher", "Images and targets", "Running"

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress; notes and errors stay.", rich_help_panel=RUNNING)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=RUNNING)]
DatasetName = Annotated[
    str,
    typer.Option(help="synthetic, msr_action3d, deforming_things4d, ntu_rgbd, hoi4d, or folder: your own files.", rich_help_panel=DATA),
]
Data = Annotated[Path | None, typer.Option(help="Folder of the raw data.", rich_help_panel=DATA)]
Option = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Option of the dataset; repeatable.", rich_help_panel=DATA)
]
Points = Annotated[int, typer.Option(help="Most points kept of a frame.", rich_help_panel=IMAGES)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=RUNNING)]
Store = Annotated[str, typer.Argument(metavar="STORE", help="A store: folder, zip, or either at http://, https:// or s3://.")]
NewStore = Annotated[
    Path,
    typer.Argument(metavar="OUT", parser=local_path, help="Folder of the new store. An unfinished or damaged one is resumed."),
]


def main() -> None:
    """Entry point: user errors become one message and exit code 2."""
    with user_errors(OPTIONS):
        app()


def _example(*lines: str) -> str:
    """The end of a help text."""
    return "\n\n".join(["Examples:", *lines])


def _version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        from cross4d_cache.console import show

        show([f"cross4d {version('cross4d')}"])
        raise typer.Exit
    return asked


@app.callback()
def _app(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_version)] = False) -> None:
    """What holds for all commands."""


@app.command(
    epilog=_example(
        "cross4d-cache build --dataset folder --data scans --out scans.zarr",
        "cross4d-cache build --teacher vjepa2 --dataset ntu_rgbd --data NTU --dry-run",
    )
)
def build(
    dataset: DatasetName = "synthetic",
    data: Data = None,
    option: Option = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N sequences.", rich_help_panel=DATA)] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Leave a sequence out; repeatable.", rich_help_panel=DATA)] = None,
    teacher: Annotated[
        str,
        typer.Option(
            help="Frozen teacher: tiny, dinov2, dinov3, vjepa2, videomae, hf, position, or none, for points without targets; "
            "`teachers` lists all.",
            rich_help_panel=TEACHER,
        ),
    ] = "tiny",
    weights: Annotated[
        str | None,
        typer.Option(
            help="Hub ID or ID@REVISION, folder, original checkpoint, or random; default: the published weights.", rich_help_panel=TEACHER
        ),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Block whose output is taken, from 1; default: the last.", rich_help_panel=TEACHER)
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the rendered images, px; default: the model's own.", rich_help_panel=TEACHER)
    ] = None,
    image_mean: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="R G B", help="Mean that normalises images in [0, 1]; default: as the weights say.", rich_help_panel=TEACHER),
    ] = None,
    image_std: Annotated[
        tuple[float, float, float] | None, typer.Option(metavar="R G B", help="Deviation, likewise.", rich_help_panel=TEACHER)
    ] = None,
    window: Annotated[int, typer.Option(help="Frames a video teacher sees at once.", rich_help_panel=TEACHER)] = 16,
    points: Points = 4096,
    camera_model: Annotated[
        str,
        typer.Option(
            help="pinhole, around the subject; or spherical, at the sensor, for LiDAR scans that go all round.", rich_help_panel=IMAGES
        ),
    ] = "pinhole",
    camera: Annotated[
        str,
        typer.Option(
            help="sequence or window:FRAMES: how long cameras stand still; or sensor: at the real one's place.", rich_help_panel=IMAGES
        ),
    ] = "sequence",
    views: Annotated[
        int | None,
        typer.Option(help="Cameras; default: 1, of spherical ones 8, which share the whole turn.", rich_help_panel=IMAGES),
    ] = None,
    visibility: Annotated[
        str,
        typer.Option(
            help="surface: what lies on the nearest surface is visible; or winner: only the nearest point of each pixel.",
            rich_help_panel=IMAGES,
        ),
    ] = "surface",
    project: Annotated[str, typer.Option(help="random:CHANNELS, pca:CHANNELS or none.", rich_help_panel=IMAGES)] = "random:384",
    correspondence: Annotated[
        str,
        typer.Option(
            help="zbuffer; or, as controls, targets of other points (shuffled), patches (random), places (shifted:PIXELS).",
            rich_help_panel=IMAGES,
        ),
    ] = "zbuffer",
    out: Annotated[
        Path, typer.Option(parser=local_path, help="Store to write. An unfinished store is resumed.", rich_help_panel=RUNNING)
    ] = Path("store.zarr"),
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Write nothing; say how large it gets and how long it takes.", rich_help_panel=RUNNING),
    ] = False,
    batch_size: Annotated[int | None, typer.Option(help="Frames in a batch; default: 32, on CUDA 256.", rich_help_panel=RUNNING)] = None,
    device: Device = "auto",
    seed: Annotated[
        int, typer.Option(help="Seed of point thinning, projection, random weights and controls.", rich_help_panel=RUNNING)
    ] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Build a store, or resume one that was interrupted."""
    from cross4d_cache.build.build import build_store
    from cross4d_cache.build.estimate import estimate_build
    from cross4d_cache.build.request import BuildRequest, BuildSettings, DatasetRequest, TeacherRequest
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import about_finished, summary
    from cross4d_cache.store import open_cache

    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the hub's client is imported
    request = BuildRequest(
        dataset=DatasetRequest(name=dataset, root=data, options=_options(option)),
        teacher=TeacherRequest(
            name=teacher,
            weights=weights,
            layer=layer,
            image_size=image_size,
            image_mean=image_mean,
            image_std=image_std,
            window=window,
        ),
        settings=BuildSettings(
            points_per_frame=points,
            camera_model=camera_model,
            camera=camera,
            views=views,
            visibility=visibility,
            projection=project,
            correspondence=correspondence,
            seed=seed,
            batch_frames=batch_size,
            limit=limit,
            exclude=tuple(exclude or ()),
        ),
    )
    if dry_run:
        print_result(follow(estimate_build(request, out, device=device), OPTIONS, quiet=quiet).as_record(), as_json)
        return
    progress = follow(build_store(request, out, device=device), OPTIONS, quiet=quiet)
    cache = follow(about_finished(open_cache(out)), OPTIONS)
    print_result({**progress.report(), **summary(cache)}, as_json)


@app.command("check-data", epilog=_example("cross4d-cache check-data --dataset ntu_rgbd --data NTU --read-all"))
def check_data(
    dataset: DatasetName,
    data: Data = None,
    option: Option = None,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read every frame, not only names, headers and a few sequences.", rich_help_panel=DATA)
    ] = False,
    points: Points = 4096,
    views: Annotated[int, typer.Option(help="Cameras of the build whose store is estimated.", rich_help_panel=IMAGES)] = 1,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """What a folder of raw data holds: what is there, missing, or damaged, and how large its store will be."""
    from cross4d_cache.build.request import DatasetRequest
    from cross4d_cache.console import follow, print_result, show
    from cross4d_cache.report import check_data as report

    request = DatasetRequest(name=dataset, root=data, options=_options(option))
    found = follow(report.check_data(request, read_all=read_all, kept_points=points, views=views), OPTIONS, quiet=quiet)
    if as_json:
        print_result(found.as_record(), as_json)
    else:
        show(found.lines(), OPTIONS)
    found.refuse()


@app.command(epilog=_example("cross4d-cache info store.zarr", "cross4d-cache info store.zarr --fidelity --data NTU"))
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
    from dataclasses import asdict

    from cross4d_cache.build.extent import store_extent
    from cross4d_cache.console import follow, print_overview, print_result, show
    from cross4d_cache.report.fidelity import describe, measure_fidelity
    from cross4d_cache.report.store import about, summary
    from cross4d_cache.store import open_cache

    cache = follow(about(open_cache(store, allow_partial=not fidelity)), OPTIONS)
    if png is not None:
        from cross4d_cache.report.picture import draw_summary

        draw_summary(cache, png)
    if fidelity:
        report = follow(measure_fidelity(store, data, _options(option)), OPTIONS, quiet=quiet)
        if as_json:
            print_result(asdict(report), as_json)
        else:
            show(describe(report), OPTIONS)
        return
    extent = follow(store_extent(cache, read_all=read_all), OPTIONS, quiet=quiet)
    if as_json:
        print_result({**summary(cache), "extent": None if extent is None else extent.as_record()}, as_json)
        return
    spherical = cache.manifest.render.camera_model == "spherical"
    print_result(summary(cache), as_json)
    show(extent.report(cache.manifest.reader_options, spherical=spherical) if extent else [""], OPTIONS)
    print_overview(cache)


@app.command()
def teachers(as_json: Json = False) -> None:
    """The teachers that have names: parameters, pixels of a patch, frames of a tubelet, pixels of an image, published weights."""
    from dataclasses import asdict

    from cross4d_cache.catalogue import CATALOGUE
    from cross4d_cache.console import print_table

    print_table([asdict(teacher) for teacher in CATALOGUE.values()], as_json)


@app.command(epilog=_example("cross4d-cache verify store.zarr"))
def verify(store: Store, quiet: Quiet = False, as_json: Json = False) -> None:
    """Compare every byte of a finished store with the hashes taken when it was written, and say what fixes what is damaged."""
    from cross4d_cache.console import follow, print_result, say
    from cross4d_cache.join import count_of, first_of
    from cross4d_cache.store.verify import verify_store

    found = follow(verify_store(store), OPTIONS, quiet=quiet)
    if found.strays:
        say(f"note: {count_of(found.strays, 'file')} of something else, which no reader looks at: {first_of(found.strays)}")
    if as_json or found.intact:
        print_result(found.as_record(), as_json)
    found.refuse()


@app.command(epilog=_example("cross4d-cache merge monday.zarr tuesday.zarr week.zarr"))
def merge(
    stores: Annotated[list[str], typer.Argument(metavar="STORE...", help="Finished stores of the same settings.")],
    out: NewStore,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The union of several stores of the same settings; parts become hard links where they can."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import merge as sharing

    _check_order("merge", stores, out)
    print_result(summary(follow(sharing.merge(stores, out), OPTIONS, quiet=quiet)), as_json)


@app.command(epilog=_example("cross4d-cache subset store.zarr train.zarr --split train"))
def subset(
    store: Store,
    out: NewStore,
    split: Annotated[str | None, typer.Option("--split", help="train, test, unsplit (in no split), train+unsplit.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="Of which protocol; default: the dataset's first.")] = None,
    action: Annotated[list[str] | None, typer.Option("--action", help="Name or number; repeatable.")] = None,
    sequences: Annotated[Path | None, typer.Option("--sequences", help="File with the id of a sequence on every line.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """The sequences of a store that meet all conditions, as a store of their own."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import subset as sharing

    _check_order("subset", [store], out)
    ids = None if sequences is None else sharing.read_ids(sequences)
    work = sharing.subset(store, out, split=split, protocol=protocol, actions=action or (), ids=ids)
    print_result(summary(follow(work, OPTIONS, quiet=quiet)), as_json)


@app.command(epilog=_example("cross4d-cache derive store.zarr control.zarr --correspondence shuffled"))
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
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import derive as sharing

    print_result(summary(follow(sharing.derive(store, out, correspondence), OPTIONS, quiet=quiet)), as_json)


@app.command(epilog=_example("cross4d-cache pack store.zarr store.zip"))
def pack(
    store: Store,
    out: Annotated[Path, typer.Argument(metavar="FILE.zip", parser=local_path, help="The file, which every command reads in place.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """A finished store as one file. `pull FILE.zip FOLDER` makes it a folder again."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.sharing import pack as sharing

    size = follow(sharing.pack(store, out), OPTIONS, quiet=quiet)
    print_result({"file": str(out), "bytes": size}, as_json)


@app.command(epilog=_example("cross4d-cache pull https://lab.example/store.zip store.zarr"))
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
    """Copy a store from elsewhere, checked, and resume an earlier copy that was interrupted."""
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.report.store import summary
    from cross4d_cache.sharing import pull as sharing

    print_result(summary(follow(sharing.pull(store, out, wait_minutes=wait), OPTIONS, quiet=quiet)), as_json)


def _check_order(command: str, stores: list[str], out: Path) -> None:
    """Refuse what release 0.1 wanted: the new store first, and its sources behind it.

    Raises:
        SettingsError: `out` is a finished store, and the first of `stores` is none.
    """
    from cross4d_cache.errors import CacheError
    from cross4d_cache.store import open_cache

    try:
        open_cache(stores[0])
    except CacheError:
        try:
            open_cache(out)
        except CacheError:
            return
        raise SettingsError(
            f"{stores[0]} is no finished store, but {out}, which stands last, is",
            expected="sources first, and the new store last",
            hint=f"cross4d-cache {command} {' '.join([*stores[1:], str(out), stores[0]])}",
        ) from None


def _options(pairs: list[str] | None) -> dict[str, str]:
    for pair in pairs or ():
        if "=" not in pair:
            raise SettingsError(f"--option {pair}", expected="KEY=VALUE", hint="see docs/quickstart.md")
    return dict(pair.split("=", 1) for pair in pairs or ())
