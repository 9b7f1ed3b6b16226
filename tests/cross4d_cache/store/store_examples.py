"""Stores of random numbers, small and odd-shaped, and a slow reference of what reading a clip means."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr

from cross4d_cache.store import (
    NOT_VISIBLE,
    CacheManifest,
    CacheWriter,
    DatasetRecord,
    PartContents,
    PlanRecord,
    ProjectionRecord,
    open_cache,
)
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.types import CachedClip, RenderSettings, SequenceInfo, TeacherSpec

CHANNELS = 5
PROJECTION = np.random.default_rng(7).standard_normal((8, CHANNELS)).astype(np.float32)


def make_part(
    frame_counts: list[list[int]],
    *,
    seed: int = 0,
    views: int = 2,
    tubelet: int = 2,
    most_rows: int = 6,
    part_labels: bool = True,
    surface_ids: bool = True,
    frame_actions: bool = True,
    first_id: int = 0,
) -> PartContents:
    """A part of sequences that have `frame_counts` points in their frames; `tubelet` consecutive frames share feature rows."""
    rng = np.random.default_rng(seed)
    counts = np.array([count for sequence in frame_counts for count in sequence])
    num_points = int(counts.sum())
    frame_tubelet: list[int] = []
    for sequence in frame_counts:
        first = frame_tubelet[-1] + 1 if frame_tubelet else 0
        frame_tubelet += [first + t // tubelet for t in range(len(sequence))]
    rows = rng.integers(0, most_rows + 1, frame_tubelet[-1] + 1)
    rows_of_point = np.repeat(rows[frame_tubelet], counts)[:, None].repeat(views, axis=1)
    slots = (rng.random((num_points, views)) * rows_of_point).astype(np.uint16)
    hidden = (rng.random((num_points, views)) < 0.3) | (rows_of_point == 0)
    num_rows, num_sequences = int(rows.sum()), len(frame_counts)
    return PartContents(
        sequences=tuple(
            SequenceInfo(
                id=f"sequence {first_id + number}",
                num_frames=len(sequence),
                action=number,
                subject=number + 1,
                splits={"all": "train"} if number % 2 else {},
            )
            for number, sequence in enumerate(frame_counts)
        ),
        point_offsets=np.cumsum([0, *counts], dtype=np.int64),
        points=rng.integers(0, 65_536, (num_points, 3)).astype(np.uint16),
        boxes=rng.uniform(1e-6, 1.0, (num_sequences, 2, 3)),
        patch_slot=np.where(hidden, NOT_VISIBLE, slots).astype(np.uint16),
        frame_tubelet=np.array(frame_tubelet, np.int64),
        feature_offsets=np.cumsum([0, *rows], dtype=np.int64),
        features=rng.standard_normal((num_rows, CHANNELS)).astype(np.float16),
        feature_patch=rng.integers(0, 16, num_rows).astype(np.uint16),
        frame_features=rng.standard_normal((len(rows), CHANNELS)).astype(np.float16),
        intrinsics=rng.standard_normal((num_sequences, views, 3, 3)),
        world_to_camera=rng.standard_normal((num_sequences, views, 4, 4)),
        part_labels=rng.integers(0, 9, num_points).astype(np.uint16) if part_labels else None,
        surface_ids=rng.integers(0, 2**32, num_points).astype(np.uint32) if surface_ids else None,
        frame_actions=rng.integers(-1, 9, len(counts)).astype(np.int16) if frame_actions else None,
    )


def make_manifest(parts: list[PartContents], *, views: int = 2) -> CacheManifest:
    """The manifest of a store that will hold `parts`."""
    return CacheManifest(
        complete=False,
        dataset=DatasetRecord(
            name="random",
            version="1",
            options={"noise": 0.5},
            fingerprint="raw",
            protocols=("all",),
            action_names=("a", "b"),
            part_names=(),
        ),
        points_per_frame=100,
        seed=0,
        render=RenderSettings(views=views, image_size=32),
        teacher=TeacherSpec(
            name="none-such",
            weights="none",
            sha256="0" * 64,
            num_parameters=1,
            image_size=32,
            patch_size=8,
            tubelet=2,
            window=4,
            channels=8,
            layer=1,
            dtype="float32",
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        projection=ProjectionRecord(kind="random", seed=0, channels=CHANNELS, sha256=sha256_bytes(PROJECTION.tobytes())),
        plan=PlanRecord(
            batch_frames=8,
            num_parts=len(parts),
            num_sequences=sum(len(part.sequences) for part in parts),
            num_frames=sum(len(part.frame_tubelet) for part in parts),
            sha256=sha256_bytes(canonical_json([[info.id for info in part.sequences] for part in parts])),
        ),
        software={"python": "3"},
    )


def write_store(path: Path, parts: list[PartContents], *, views: int = 2) -> Path:
    """A finished store."""
    writer = CacheWriter(path, make_manifest(parts, views=views), PROJECTION)
    for number, part in enumerate(parts):
        writer.commit(number, part)
    writer.finish()
    return path


def two_parts() -> list[PartContents]:
    """Two parts of three ragged sequences together, with labels."""
    return [make_part([[5, 1, 7, 3], [2, 9, 4]], seed=1), make_part([[8, 6, 1, 1, 3]], seed=2, first_id=2)]


def load_arrays(store: Path, part: int) -> dict[str, np.ndarray]:
    """Whole arrays of a part, by zarr's own pipeline."""
    folders = [folder for folder in (store / "parts" / f"{part:05d}").iterdir() if folder.is_dir()]
    return {folder.name: np.asarray(zarr.open_array(folder, mode="r")[...]) for folder in folders}


class SlowFrame(NamedTuple):
    """What a clip must say of one frame; `targets[point][view]` is None or (feature, patch)."""

    points: np.ndarray
    targets: list[list[tuple[np.ndarray, int] | None]]
    summary: np.ndarray
    part_labels: np.ndarray | None
    surface_ids: np.ndarray | None
    action: int | None


def slow_frame(arrays: dict[str, Any], lengths: list[int], sequence: int, frame: int) -> SlowFrame:
    """One frame of a sequence from whole arrays, point by point; `lengths` are the frames of each sequence of the part."""
    place = sum(lengths[:sequence]) + frame
    start, stop = arrays["point_offsets"][place : place + 2]
    low, step = arrays["boxes"][sequence].astype(np.float32)
    tubelet = arrays["frame_tubelet"][place]
    first_row = int(arrays["feature_offsets"][tubelet])
    targets: list[list[tuple[np.ndarray, int] | None]] = []
    for point in range(start, stop):
        slots = arrays["patch_slot"][point].tolist()
        rows = [None if slot == NOT_VISIBLE else first_row + slot for slot in slots]
        targets.append([None if row is None else (arrays["features"][row], int(arrays["feature_patch"][row])) for row in rows])
    labels = [None if arrays.get(name) is None else arrays[name][start:stop] for name in ("part_labels", "surface_ids")]
    points = arrays["points"][start:stop].astype(np.float32) * step + low
    actions = arrays.get("frame_actions")
    return SlowFrame(points, targets, arrays["frame_features"][tubelet], *labels, None if actions is None else int(actions[place]))


def assert_clip_is(clip: CachedClip, expected: list[SlowFrame]) -> None:
    """Compare a clip that was read with labels and targets."""
    assert len(clip.point_offsets) - 1 == len(clip.frame_features) == len(expected)
    for t, frame in enumerate(expected):
        inside = slice(clip.point_offsets[t], clip.point_offsets[t + 1])
        np.testing.assert_array_equal(clip.points[inside], frame.points)
        np.testing.assert_array_equal(clip.frame_features[t], frame.summary)
        for got, want in ((clip.part_labels, frame.part_labels), (clip.surface_ids, frame.surface_ids)):
            assert (got is None) == (want is None)
            if got is not None:
                np.testing.assert_array_equal(got[inside], want)
        assert (clip.frame_actions is None) == (frame.action is None)
        assert clip.frame_actions is None or clip.frame_actions[t] == frame.action
        assert len(clip.rows[inside]) == len(frame.targets)
        for rows, targets in zip(clip.rows[inside].tolist(), frame.targets, strict=True):
            assert [row < 0 for row in rows] == [target is None for target in targets]
            for row, target in zip(rows, targets, strict=True):
                if target is not None:
                    np.testing.assert_array_equal(clip.features[row], target[0])
                    assert clip.patches[row] == target[1]


def use(store: Path) -> None:
    """All that a trainer does with a store."""
    cache = open_cache(store)
    for index, info in enumerate(cache.sequences):
        cache.read_clip(index, np.arange(min(info.num_frames, 4)), labels=True)
        cache.cameras(index, 0)
    cache.projection()
