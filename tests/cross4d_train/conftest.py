"""A small real store: bodies of random points, two motions, features that depend on where on the body a point is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.store import NOT_VISIBLE, CacheManifest, CacheWriter, DatasetRecord, PartContents, PlanRecord, ProjectionRecord
from cross4d_cache.store.quantize import bounding_box, encode
from cross4d_cache.types import RenderSettings, SequenceInfo, TeacherSpec
from cross4d_train.data import Batch
from cross4d_train.testing.batch import CHANNELS, PATCHES, VIEWS, random_batch
from cross4d_train.testing.batch import TARGETS as TARGETS

PROTOCOLS = ("cross-subject", "cross-view")
PART_NAMES = ("head", "trunk", "legs")
"""Parts of a body, from its highest point down."""


def make_manifest(num_sequences: int, num_frames: int, weights: str, protocols: tuple[str, ...] = PROTOCOLS) -> CacheManifest:
    teacher = TeacherSpec(
        name="fake", weights=weights, sha256=weights, num_parameters=1, image_size=28, patch_size=14, tubelet=1, window=1,
        channels=CHANNELS, layer=0, dtype="float32", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    )  # fmt: skip
    return CacheManifest(
        complete=False,
        dataset=DatasetRecord(
            name="fake", version="1", options={}, fingerprint="0", protocols=protocols,
            action_names=("sway", "bob"), part_names=PART_NAMES,
        ),
        points_per_frame=120,
        seed=0,
        render=RenderSettings(views=VIEWS, image_size=28),
        teacher=teacher,
        projection=ProjectionRecord(kind="none", seed=0, channels=CHANNELS, sha256=None),
        plan=PlanRecord(batch_frames=8, num_parts=1, num_sequences=num_sequences, num_frames=num_frames, sha256="plan"),
        software={},
    )  # fmt: skip


def make_points(info: SequenceInfo, rng: np.random.Generator) -> list[np.ndarray]:
    frames = []
    for frame in range(info.num_frames):
        points = rng.uniform([-0.3, -0.9, 2.7], [0.3, 0.9, 3.3], size=(int(rng.integers(60, 121)), 3))
        points[:, max(info.action, 0)] += 0.5 * np.sin(frame)
        frames.append(points.astype(np.float32))
    return frames


def write_store(
    path: Path,
    infos: list[SequenceInfo],
    *,
    weights: str = "trained",
    targets: bool = True,
    labels: bool = True,
    protocols: tuple[str, ...] = PROTOCOLS,
    change: Callable[[PartContents], PartContents] = lambda contents: contents,
) -> Path:
    rng = np.random.default_rng(0)
    frames = [make_points(info, rng) for info in infos]
    boxes = [bounding_box(np.concatenate(points)) for points in frames]
    flat = [points for sequence in frames for points in sequence]
    patches = PATCHES if targets else 0
    counts = [len(points) for points in flat]
    table = rng.normal(size=(patches, CHANNELS)).astype(np.float16)
    heights = np.concatenate([points[:, 1] - points[:, 1].min() for points in flat])
    slots = np.stack([(heights * 4).astype(np.int64).clip(0, PATCHES - 1)] * VIEWS, axis=1)
    slots[rng.random(slots.shape) < (0.4 if targets else 2)] = NOT_VISIBLE
    contents = PartContents(
        sequences=tuple(infos),
        point_offsets=np.cumsum([0, *counts]).astype(np.int64),
        points=np.concatenate([encode(np.concatenate(points), box) for points, box in zip(frames, boxes, strict=True)]),
        boxes=np.stack(boxes),
        patch_slot=slots.astype(np.uint16),
        frame_tubelet=np.arange(len(flat), dtype=np.int64),
        feature_offsets=np.arange(len(flat) + 1, dtype=np.int64) * patches,
        features=np.tile(table, (len(flat), 1)),
        feature_patch=np.tile(np.arange(patches, dtype=np.uint16), len(flat)),
        frame_features=rng.normal(size=(len(flat), CHANNELS)).astype(np.float16),
        surface_ids=np.concatenate([np.arange(count, dtype=np.uint32) for count in counts]),
        frame_actions=np.concatenate([np.arange(info.num_frames, dtype=np.int16) // 3 % 2 for info in infos]),
        part_labels=(heights / 0.65).astype(np.uint16).clip(0, len(PART_NAMES) - 1),
        intrinsics=np.tile(np.eye(3), (len(infos), VIEWS, 1, 1)),
        world_to_camera=np.tile(np.eye(4), (len(infos), VIEWS, 1, 1)),
    )
    if not labels:
        contents = replace(contents, part_labels=None, surface_ids=None, frame_actions=None)
    writer = CacheWriter(path, make_manifest(len(infos), len(flat), weights, protocols), None)
    writer.commit(0, change(contents))
    writer.finish()
    return path


def make_infos(*, labelled: bool = True, test_actions: tuple[int, ...] = (0, 1)) -> list[SequenceInfo]:
    """Eight training and four test sequences; one of them has three frames."""
    infos = []
    for index in range(12):
        side = "train" if index < 8 else "test"
        action = (0, 1)[index % 2] if side == "train" else test_actions[index % len(test_actions)]
        infos.append(
            SequenceInfo(
                id=f"s{index}",
                num_frames=3 if index == 5 else 7 + index % 3,
                action=action if labelled else -1,
                splits={"cross-subject": side},
            )
        )
    return infos


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "store.zarr", make_infos())


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """A batch of random points; a share of `visible` of the rows points at a feature."""
    return random_batch
