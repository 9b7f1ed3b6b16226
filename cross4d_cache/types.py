"""The nouns both stages share, as numpy data: sequences, cameras, clips, and the description of a teacher.

Coordinates are metres in OpenCV axes (x right, y down, z forward) everywhere after a dataset reader; see docs/conventions.md.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Bool, Float16, Float32, Float64, Int16, Int32, Int64, UInt16, UInt32
from pydantic import AfterValidator, Field, FiniteFloat

from cross4d_cache.errors import DatasetError
from cross4d_cache.record import Record, added
from cross4d_cache.redaction import redact

UNLABELLED = -1
"""Value of `action`, `subject` and `camera` where a dataset does not say."""

UNLABELLED_PART = 65_535
"""Value of `part_labels` in a store where a dataset does not say, though it does for other sequences."""

Count = Annotated[int, Field(ge=0, lt=2**48)]
"""Of things in a file: no more than any file holds."""
Size = Annotated[int, Field(ge=1, le=65_535)]
"""Of images, vectors, windows."""
Label = Annotated[int, Field(ge=UNLABELLED, lt=2**31)]
"""Of actions, subjects and cameras."""

Address = Annotated[str, AfterValidator(redact)]
"""Where something lies, on this machine or another, without login and signature: these are never recorded."""

Side = Literal["train", "test", "unsplit", "train+unsplit", "all"]
"""Sequences by a protocol: its training or its test side; those that no protocol of their store places; the training side and these;
or all. What another protocol places is left out by this one on purpose, so it is not `unsplit`."""

Visibility = Literal["surface", "winner"]
"""Which points a view sees: all that lie on the nearest surface, or only the nearest one of each pixel."""

CameraModel = Literal["pinhole", "spherical"]
"""How points become pixels: by perspective, from around the subject, or by azimuth and elevation, at the sensor."""

Precision = Literal["float32", "bfloat16"]
"""What a network computes in."""

Density = Literal["rows", "places"]
"""What the points of a frame are: all its rows, as in release 0.1, or its distinct places, whose repeats are left out and not counted."""

Framing = Literal["all", "most"]
"""What cameras frame: all points, as in release 0.1, or all but the few that lie far off the others."""

CORRESPONDENCE = r"zbuffer|shuffled|random|shifted:[1-9]\d{0,3}"
"""Whose target a visible point gets: that of the patch it is seen in; or, as controls, that of a random visible point of its frame, of
a random patch of the image, or of the patch so many pixels to the right (of the last one at the image's edge)."""

CAMERA = r"sequence|window:[1-9]\d{0,4}|sensor"
"""Where cameras stand and for how long: about the subject, fixed for a sequence or for windows of so many frames; or at the sensor."""


def camera_window_length(camera: str) -> int | None:
    """For how many frames cameras stand still, of a choice as `CAMERA` has them; None if all the time."""
    kind, _, length = camera.partition(":")
    return int(length) if kind == "window" else None


class SequenceInfo(Record):
    """What is known of a sequence without reading its points.

    `splits` maps each protocol of the dataset to the side this sequence is on, for example `{"cross-subject": "train"}`;
    a protocol that leaves the sequence out is absent. `camera` is the number of the recording device. `origin` is what a build
    subtracted from the coordinates of the sequence's files, in their unit and axes.
    """

    id: str
    num_frames: Count
    action: Label = UNLABELLED
    subject: Label = UNLABELLED
    camera: Label = UNLABELLED
    splits: dict[str, str] = Field(default_factory=dict)
    origin: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None = added(None)

    def is_on(self, side: Side, protocol: str | None) -> bool:
        """Whether the sequence is on a side of a protocol."""
        placed = self.splits.get(str(protocol))
        return side == "all" or placed == side or (side in ("unsplit", "train+unsplit") and not self.splits) or side == f"{placed}+unsplit"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The points of one instant, metres, OpenCV axes. Labels are as in `PointCloudSequence`; `action` is that of the frame."""

    points: Float32[np.ndarray, "point 3"]
    part_labels: UInt16[np.ndarray, " point"] | None = None
    surface_ids: UInt32[np.ndarray, " point"] | None = None
    action: int = UNLABELLED

    def __getitem__(self, picks: slice | Int64[np.ndarray, " pick"] | Bool[np.ndarray, " point"]) -> "Frame":
        """Some of its points."""
        return Frame(
            points=_rows(self.points, picks),
            part_labels=None if self.part_labels is None else self.part_labels[picks],
            surface_ids=None if self.surface_ids is None else self.surface_ids[picks],
            action=self.action,
        )


def _rows(
    points: Float32[np.ndarray, "point 3"], picks: slice | Int64[np.ndarray, " pick"] | Bool[np.ndarray, " point"]
) -> Float32[np.ndarray, "pick 3"]:
    if isinstance(picks, slice) or picks.dtype == np.bool_:
        return points[picks]
    return points.take(picks, axis=0)  # several times as fast as indexing


@dataclass(frozen=True, kw_only=True)
class PointCloudSequence:
    """One recording: the points of each of its frames, metres, OpenCV axes.

    Frame `t` holds the points `point_offsets[t]` to `point_offsets[t + 1]`. `part_labels` are semantic classes;
    equal `surface_ids` in two frames mean the same piece of surface. `frame_actions` are classes of single frames, for datasets whose
    recordings hold several actions.

    Raises:
        DatasetError: a frame without points, or coordinates that are not finite.
    """

    info: SequenceInfo
    points: Float32[np.ndarray, "point 3"]
    point_offsets: Int64[np.ndarray, " boundary"]
    part_labels: UInt16[np.ndarray, " point"] | None = None
    surface_ids: UInt32[np.ndarray, " point"] | None = None
    frame_actions: Int16[np.ndarray, " frame"] | None = None

    def __post_init__(self) -> None:
        counts = np.diff(self.point_offsets)
        if len(counts) != self.info.num_frames or self.point_offsets[-1] != len(self.points):
            raise DatasetError(
                f"sequence {self.info.id}: {len(counts)} frames and {len(self.points)} points were read",
                expected=f"{self.info.num_frames} frames, as the listing of the dataset says",
                hint="the file changed or is damaged; fetch it again",
            )
        if len(counts) == 0 or counts.min() <= 0:
            where = f"frame {int(counts.argmin())} has no points" if len(counts) else "there are no frames"
            raise DatasetError(
                f"sequence {self.info.id}: {where}",
                expected="at least one point in every frame",
                hint=f"fix the file, or leave the sequence out with `exclude` {self.info.id}",
            )
        if not np.isfinite(self.points).all():
            finite = np.isfinite(self.points).all(axis=1)
            frame = int(np.searchsorted(self.point_offsets, int(finite.argmin()), side="right")) - 1
            raise DatasetError(
                f"sequence {self.info.id}: {int((~finite).sum())} points are NaN or infinite, the first in frame {frame}",
                expected="finite coordinates in metres",
                hint=f"fix the file, or leave the sequence out with `exclude` {self.info.id}",
            )

    @property
    def num_frames(self) -> int:
        """Number of frames."""
        return len(self.point_offsets) - 1

    def frames(self) -> Iterator[Frame]:
        """The frames one by one; their arrays are views."""
        whole = Frame(points=self.points, part_labels=self.part_labels, surface_ids=self.surface_ids)
        actions = [UNLABELLED] * self.num_frames if self.frame_actions is None else self.frame_actions.tolist()
        for start, stop, action in zip(self.point_offsets[:-1], self.point_offsets[1:], actions, strict=True):
            yield replace(whole[int(start) : int(stop)], action=action)

    def frame(self, index: int) -> Float32[np.ndarray, "point 3"]:
        """The points of one frame, metres."""
        return self.points[self.point_offsets[index] : self.point_offsets[index + 1]]

    @classmethod
    def collect(cls, info: SequenceInfo, frames: Iterable[Frame]) -> "PointCloudSequence":
        """A sequence from its frames. Labels are kept if every frame has them, frame actions if any frame has one.

        Raises:
            DatasetError: as the class itself.
        """
        held = list(frames)
        actions = np.array([frame.action for frame in held], dtype=np.int16)
        parts = [frame.part_labels for frame in held if frame.part_labels is not None]
        surfaces = [frame.surface_ids for frame in held if frame.surface_ids is not None]
        return cls(
            info=info,
            points=np.concatenate([frame.points for frame in held]) if held else np.empty((0, 3), np.float32),
            point_offsets=np.cumsum([0, *(len(frame.points) for frame in held)], dtype=np.int64),
            part_labels=np.concatenate(parts) if held and len(parts) == len(held) else None,
            surface_ids=np.concatenate(surfaces) if held and len(surfaces) == len(held) else None,
            frame_actions=actions if (actions != UNLABELLED).any() else None,
        )


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera: OpenCV axes, pixel centres at +0.5, a square image of `image_size` pixels.

    `world_to_camera` is a rigid transform of homogeneous points, metres. `intrinsics` take `(x / z, y / z)` in camera axes to
    pixels; those of a spherical camera take azimuth and elevation, radians, `(atan2(x, z), atan2(y, hypot(x, z)))`.
    """

    intrinsics: Float64[np.ndarray, "3 3"]
    world_to_camera: Float64[np.ndarray, "4 4"]
    image_size: int
    model: CameraModel = "pinhole"

    def project(self, points: Float32[np.ndarray, "point 3"]) -> tuple[Float64[np.ndarray, "point 2"], Float64[np.ndarray, " point"]]:
        """Pixel coordinates and depth (metres; of a spherical camera, the distance) of world points."""
        x, y, z = (points @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]).T
        if self.model == "pinhole":
            depth, seen = z, np.stack([x / z, y / z])
        else:
            across = np.hypot(x, z)
            depth, seen = np.hypot(across, y), np.stack([np.arctan2(x, z), np.arctan2(y, across)])
        return seen.T @ self.intrinsics[:2, :2].T + self.intrinsics[:2, 2], depth


@dataclass(frozen=True, kw_only=True)
class CachedClip:
    """Some frames of one cached sequence with the targets of their points.

    Frame `t` of the clip holds the points `point_offsets[t]` to `point_offsets[t + 1]`, metres. Entry `(i, v)` of `rows` is the
    row of `features` that is the target of point `i` from view `v`, or -1 where the view does not see the point: a point's target
    is the mean over the views that see it. `patches` gives the patch of every row, counted `view * patches_per_image + patch`.
    `frame_features` is the teacher's global embedding of each frame. Without targets, `rows` has no view and `features` no row.
    """

    info: SequenceInfo
    frames: Int64[np.ndarray, " frame"]
    points: Float32[np.ndarray, "point 3"]
    point_offsets: Int64[np.ndarray, " boundary"]
    rows: Int32[np.ndarray, "point view"]
    features: Float16[np.ndarray, "row channel"]
    patches: UInt16[np.ndarray, " row"]
    frame_features: Float16[np.ndarray, "frame channel"]
    part_labels: UInt16[np.ndarray, " point"] | None = None
    surface_ids: UInt32[np.ndarray, " point"] | None = None
    frame_actions: Int16[np.ndarray, " frame"] | None = None

    def targets(self) -> tuple[Float32[np.ndarray, "point channel"], Bool[np.ndarray, " point"]]:
        """The target of every point, the mean over the views that see it, and whether any does; zeros where none does."""
        return mean_over_views(self.rows, self.features)


def mean_over_views(
    rows: Int32[np.ndarray, "*point view"], features: Float16[np.ndarray, "row channel"]
) -> tuple[Float32[np.ndarray, "*point channel"], Bool[np.ndarray, "*point"]]:
    """The mean of the features that points have in the views that see them, whose rows are not -1, and whether any does; else zeros."""
    total = np.zeros((*rows.shape[:-1], features.shape[1]), np.float32)
    counts = np.zeros(rows.shape[:-1], np.float32)
    for view in np.moveaxis(rows, -1, 0):
        seen = view >= 0
        total[seen] += features[view[seen]]
        counts += seen
    return total / np.maximum(counts, 1)[..., None], counts > 0


class TeacherSpec(Record):
    """The frozen 2D model that made the targets, as far as it decides their numbers.

    `weights` is a hub id, a folder's name, `random:SEED`, or what the teacher says of numbers that it brings itself; `sha256` is of
    the weight file (of the parameters for random weights). `tubelet` is how many consecutive frames share a token, `window` how many
    frames the teacher sees at once. Images in [0, 1] are normalised before the teacher: `(image * scale - mean) / std`.
    `norm` is what tokens went through last: `final`, whatever the model ends with, the name of a norm that it keeps for its pooled
    vector, or `none` where the weights lack that one. `options` are those of a teacher of another package.
    """

    name: str
    weights: str
    revision: str | None = None
    sha256: str
    num_parameters: Count
    image_size: Size
    patch_size: Size
    tubelet: Size
    window: Size
    channels: Size
    layer: Count
    dtype: str
    mean: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    std: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    scale: FiniteFloat = added(1.0)
    norm: str = added("final")
    options: dict[str, Any] = added({})

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return self.patches_per_side**2

    @property
    def makes_targets(self) -> bool:
        """Whether there is a teacher at all; without one, a store contains points and labels alone."""
        return self.name != "none"

    @property
    def is_random(self) -> bool:
        """Whether the weights were never trained."""
        return self.weights.startswith("random:")

    @property
    def warning(self) -> str:
        """What has to be said of targets of a teacher that was never trained."""
        return f"WARNING: teacher {self.name} has RANDOM weights: for plumbing and throughput only, its targets mean nothing"


class RenderSettings(Record):
    """How frames become images and which points count as visible; every field decides numbers.

    Pinhole cameras stand around the subject, `views` of them at equal steps of yaw, the first on the dataset's forward axis; they
    have a `field_of_view`, degrees, of whose half the subject may fill the share `margin`. With `camera="sensor"` the one camera
    stands at the origin, and its field of view is as wide as the subject needs. Spherical ones share the whole turn
    about the sensor, and the elevations of the sequence fill `margin` of the image's height. Gaps between points are closed over
    as many z-buffer cells as it takes for at most `gap_share` of squares of that size to be gaps.

    With `visibility="surface"` a point is visible if it lies at most `depth_tolerance` behind the nearest surface at its place, plus
    half a cell's worth of that surface's slope, which counts up to the tolerance once more; the tolerance is a share of the bounding
    box's diagonal, or, spherical, of the point's distance. With `winner` it is visible if no other point of its pixel is nearer
    (paper, section 3.1), the first of equally near ones.

    `density` says whether a place that has several points counts once. Builds of release 0.1 count `rows`, all later ones `places`.
    `framing` says whether strays decide where cameras stand; in release 0.1 `all` points do, in later builds `most`.
    """

    camera_model: CameraModel = "pinhole"
    camera: str = Field(default="sequence", pattern=f"^({CAMERA})$")
    views: Size = 1
    image_size: Size
    visibility: Visibility = "surface"
    field_of_view: FiniteFloat = 40.0
    margin: FiniteFloat = 0.95
    gap_share: FiniteFloat = 0.003
    depth_tolerance: FiniteFloat = 0.01
    density: Density = added("rows")
    framing: Framing = added("all")

    @property
    def supersampling(self) -> int:
        """Z-buffer cells along one pixel: small images hide points that lie side by side, so the z-buffer has at least 224 cells."""
        return -(-224 // self.image_size)

    def num_camera_windows(self, num_frames: int) -> int:
        """How many camera windows a sequence has; the last one takes the frames that remain as well."""
        length = camera_window_length(self.camera)
        return 1 if length is None else max(num_frames // length, 1)

    def camera_window(self, frame: int, num_frames: int) -> int:
        """The camera window that a frame of a sequence of `num_frames` lies in."""
        length = camera_window_length(self.camera)
        return 0 if length is None else min(frame // length, self.num_camera_windows(num_frames) - 1)
