"""Options and arguments that several commands of `cross4d-cache` share, and what settings are called here."""

from pathlib import Path
from typing import Annotated

import typer

from cross4d_cache.local import local_path
from cross4d_cache.usage import component

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
    "teacher.precision": "--precision",
    "teacher.options": "--teacher-option",
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
    "num_devices": "--devices",
    "num_workers": "--workers",
    "shard": "--shard",
    "out": "--out",
    "png": "--png",
    "split": "--split",
    "protocol": "--protocol",
    "actions": "--action",
    "sequences": "--sequences",
}
"""What settings are called here."""

DATA, TEACHER, IMAGES, RUNNING = "Data", "Teacher", "Images and targets", "Running"

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress; notes and errors stay.", rich_help_panel=RUNNING)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.", rich_help_panel=RUNNING)]
DatasetName = Annotated[
    str,
    typer.Option(
        parser=component,
        metavar="NAME",
        help="synthetic, msr_action3d, deforming_things4d, ntu_rgbd, hoi4d, or folder: your own files; one that is installed, or "
        "MODULE:CLASS.",
        rich_help_panel=DATA,
    ),
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
