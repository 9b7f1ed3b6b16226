"""Commands that read raw data: `build`, `check-data`, `teachers`.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

import os
from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.cli.options import (
    DATA,
    IMAGES,
    OPTIONS,
    RUNNING,
    TEACHER,
    Data,
    DatasetName,
    Device,
    Json,
    Option,
    Points,
    Quiet,
)
from cross4d_cache.errors import SettingsError
from cross4d_cache.local import local_path
from cross4d_cache.usage import component, parse_pairs, worker_count


def build(
    dataset: DatasetName = "synthetic",
    data: Data = None,
    option: Option = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N sequences.", rich_help_panel=DATA)] = None,
    exclude: Annotated[list[str] | None, typer.Option(metavar="ID", help="Leave a sequence out; repeatable.", rich_help_panel=DATA)] = None,
    teacher: Annotated[
        str,
        typer.Option(
            parser=component,
            metavar="NAME",
            help="Frozen teacher: tiny, dinov2, dinov3, vjepa2, videomae, hf, position, or none, for points without targets; "
            "`teachers` lists all. One that is installed, or MODULE:CLASS.",
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
    precision: Annotated[
        str | None,
        typer.Option(
            help="float32 or bfloat16, which decides numbers; default: bfloat16 on CUDA, float32 on a CPU.", rich_help_panel=TEACHER
        ),
    ] = None,
    teacher_option: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher-option", metavar="KEY=VALUE", help="Option of a teacher that has some; repeatable.", rich_help_panel=TEACHER
        ),
    ] = None,
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
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs here that share the work.", rich_help_panel=RUNNING)] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=worker_count,
            metavar="N",
            help="Processes that read; 0: threads; default: auto, as many as help.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make share I of N alone, from 1/N to N/N: jobs of an array.", rich_help_panel=RUNNING),
    ] = None,
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
    from cross4d_cache.build.turns import Shard
    from cross4d_cache.console import follow, print_result
    from cross4d_cache.datasets import DATASETS
    from cross4d_cache.report.store import about_finished, summary
    from cross4d_cache.store import open_cache

    if quiet:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # read when the hub's client is imported
    from cross4d_cache.teachers import TEACHERS

    request = BuildRequest(
        dataset=DatasetRequest(name=DATASETS.name_of(dataset), root=data, options=parse_pairs(option, setting="dataset.options")),
        teacher=TeacherRequest(
            name=TEACHERS.name_of(teacher),
            weights=weights,
            layer=layer,
            image_size=image_size,
            image_mean=image_mean,
            image_std=image_std,
            window=window,
            precision=precision,
            options=parse_pairs(teacher_option, setting="teacher.options"),
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
    share = None if shard is None else Shard.parse(shard)
    if dry_run:
        for setting, given in (("num_devices", devices > 1), ("shard", share is not None)):
            if given:
                raise SettingsError(f"`{setting}` with --dry-run, which tells of a whole store on one device", hint="leave it out")
        print_result(follow(estimate_build(request, out, device=device, num_workers=workers), OPTIONS, quiet=quiet).as_record(), as_json)
        return
    work = build_store(request, out, device=device, num_devices=devices, num_workers=workers, shard=share)
    progress = follow(work, OPTIONS, quiet=quiet)
    cache = follow(about_finished(open_cache(out, allow_partial=share is not None)), OPTIONS)
    print_result({**progress.report(), **summary(cache)}, as_json)


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
    """What a folder of raw data contains: what is there, missing, or damaged, and how large its store will be."""
    from cross4d_cache.build.request import DatasetRequest
    from cross4d_cache.console import follow, print_result, show
    from cross4d_cache.datasets import DATASETS
    from cross4d_cache.report import check_data as report

    request = DatasetRequest(name=DATASETS.name_of(dataset), root=data, options=parse_pairs(option, setting="dataset.options"))
    found = follow(report.check_data(request, read_all=read_all, kept_points=points, views=views), OPTIONS, quiet=quiet)
    if as_json:
        print_result(found.as_record(), as_json, OPTIONS)
    else:
        show(found.lines(), OPTIONS)
    found.refuse()


def teachers(as_json: Json = False) -> None:
    """The teachers that have names: parameters, pixels of a patch, frames of a tubelet, pixels of an image, published weights."""
    from dataclasses import asdict

    from cross4d_cache.catalogue import CATALOGUE
    from cross4d_cache.console import print_table

    print_table([asdict(teacher) for teacher in CATALOGUE.values()], as_json)
