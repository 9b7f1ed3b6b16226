"""The plan of a build: all that decides a store, and the parts in which it will be built."""

import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar, get_args

import numpy as np
from jaxtyping import Float32

from cross4d_cache.build.projection import Projection, make_projection
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.build.selection import select_sequences
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import SettingsError
from cross4d_cache.store import NOT_VISIBLE, CacheManifest, DatasetRecord, PlanRecord
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import CAMERA, CORRESPONDENCE, CameraModel, RenderSettings, SequenceInfo, Visibility, camera_window_length

Name = TypeVar("Name", bound=str)

CONTROLS = "zbuffer, or, as a control, shuffled, random or shifted:PIXELS"


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """The manifest a build will fill, the sequences of each part, and the projection."""

    manifest: CacheManifest
    parts: tuple[tuple[SequenceInfo, ...], ...]
    projection: Projection
    settings: BuildSettings


def plan_build(
    dataset: Dataset,
    teacher: Teacher,
    settings: BuildSettings,
    fitted: Float32[np.ndarray, "channel_in channel_out"] | None = None,
) -> BuildPlan:
    """Everything that will decide the store, before any frame is read; `fitted` is the matrix of a projection that needs fitting.

    Raises:
        DatasetError: a sequence that would be built is damaged.
        SettingsError: nothing to build, an excluded id that does not exist, or settings that are unknown or do not go together.
    """
    chosen = select_sequences(dataset, exclude=settings.exclude, limit=settings.limit)
    render = render_settings(dataset, teacher, settings)
    if not re.fullmatch(CORRESPONDENCE, settings.correspondence):
        raise _unknown("correspondence", settings.correspondence, CONTROLS)
    if not teacher.spec.makes_targets and settings.correspondence != "zbuffer":
        raise SettingsError(
            f"correspondence {settings.correspondence} without a teacher, so without targets",
            expected="zbuffer",
            hint="leave out `correspondence`, or choose another `teacher.name`",
        )
    projection = make_projection(settings.projection, teacher.spec.channels, settings.seed, fitted)
    parts = tuple(cut_parts(chosen, settings.frames_per_part))
    manifest = CacheManifest(
        complete=False,
        dataset=DatasetRecord(
            name=dataset.name,
            version=dataset.version,
            options=dataset.options.deciding(),
            fingerprint=dataset.fingerprint(),
            protocols=dataset.protocols,
            action_names=dataset.action_names,
            part_names=dataset.part_names,
        ),
        points_per_frame=settings.points_per_frame,
        seed=settings.seed,
        render=render,
        correspondence=settings.correspondence,
        teacher=teacher.spec,
        projection=projection.record,
        plan=PlanRecord(
            batch_frames=settings.frames_per_batch(teacher.device.type),
            num_parts=len(parts),
            num_sequences=len(chosen),
            num_frames=sum(info.num_frames for info in chosen),
            sha256=sha256_bytes(canonical_json([[info.id for info in part] for part in parts])),
            description=dataset.options.describing(),
        ),
        software={"python": platform.python_version(), **dict(_versions("cross4d", "torch", "transformers", "numpy", "zarr"))},
    )
    return BuildPlan(manifest=manifest, parts=parts, projection=projection, settings=settings)


def render_settings(dataset: Dataset, teacher: Teacher, settings: BuildSettings) -> RenderSettings:
    """How the frames of a dataset will be rendered for a teacher.

    Raises:
        SettingsError: settings that are unknown or do not go together.
    """
    spec, camera, model = teacher.spec, settings.camera, settings.camera_model
    if settings.num_views * spec.num_patches > NOT_VISIBLE:
        raise SettingsError(
            f"{settings.num_views} views of {spec.num_patches} patches each",
            expected=f"at most {NOT_VISIBLE} patches over all views, as many as a patch slot can tell apart",
            hint="use fewer `views` or a smaller `teacher.image_size`",
        )
    if not re.fullmatch(CAMERA, camera):
        raise _unknown("camera", camera, "sequence, window:FRAMES or sensor")
    length = camera_window_length(camera)
    if length is not None and length < spec.window:
        raise SettingsError(
            f"camera {camera}, but teacher {spec.name} sees {spec.window} frames at once",
            expected="the same cameras for all of them",
            hint=f"pass `camera` window:{spec.window} or longer, or a shorter `teacher.window`",
        )
    if camera == "sensor" and (settings.num_views != 1 or model != "pinhole"):
        raise SettingsError(
            f"camera sensor with {settings.num_views} views of model {model}",
            expected="one pinhole view, that of the sensor; spherical cameras stand at the sensor anyway",
            hint="leave out `views`, or `camera`",
        )
    if camera == "sensor" and not dataset.sensor_at_origin:
        raise SettingsError(
            f"dataset {dataset.name} does not know where its sensor stood",
            expected="camera sequence or window:FRAMES",
            hint="pass `camera`",
        )
    return RenderSettings(
        camera_model=_one_of(get_args(CameraModel), model, "camera_model"),
        camera=camera,
        views=settings.num_views,
        image_size=spec.image_size,
        visibility=_one_of(get_args(Visibility), settings.visibility, "visibility"),
        density="places",
        framing="most",
    )


def _versions(*packages: str) -> Iterator[tuple[str, str]]:
    """Those of packages that are installed: not every build needs all of them."""
    for name in packages:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _one_of(names: tuple[Name, ...], name: str, option: str) -> Name:
    if name not in names:
        raise _unknown(option, name, " or ".join(names))
    return names[names.index(name)]


def _unknown(setting: str, name: str, expected: str) -> SettingsError:
    return SettingsError(f"unknown {setting.replace('_', ' ')} {name!r}", expected=expected, hint=f"choose another `{setting}`")


def cut_parts(sequences: list[SequenceInfo], frames_per_part: int) -> Iterator[tuple[SequenceInfo, ...]]:
    """Whole sequences, in order, until a part holds `frames_per_part`."""
    part: list[SequenceInfo] = []
    num_frames = 0
    for info in sequences:
        part.append(info)
        num_frames += info.num_frames
        if num_frames >= frames_per_part:
            yield tuple(part)
            part, num_frames = [], 0
    if part:
        yield tuple(part)
