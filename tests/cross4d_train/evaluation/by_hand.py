"""Videos of a few points and an encoder that computes nothing, so that results can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cross4d_cache.store import CacheWriter, PartContents
from cross4d_cache.store.quantize import bounding_box, encode
from cross4d_cache.types import SequenceInfo
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings
from tests.cross4d_train.conftest import CHANNELS, VIEWS, make_manifest


@dataclass(frozen=True, kw_only=True)
class Video:
    """A sequence, frame by frame; labels are those of points and frames, `slots` the table row that each view shows of a point."""

    id: str
    side: str
    action: int
    frames: Sequence[Sequence[tuple[float, float, float]]]
    parts: Sequence[Sequence[int]] | None = None
    surfaces: Sequence[Sequence[int]] | None = None
    actions: Sequence[int] | None = None
    slots: Sequence[Sequence[tuple[int, int]]] | None = None


def across(*places: float, num_points: int = 2) -> list[list[tuple[float, float, float]]]:
    """Frames of a body whose points, one above the other, all have the frame's x."""
    return [[(place, float(height), 2.0) for height in range(num_points)] for place in places]


def write_videos(path: Path, videos: Sequence[Video], features: np.ndarray | None = None, patches: Sequence[int] = (0,)) -> Path:
    """A store of the videos; every frame has the same table of features, by default a single row of zeros."""
    table = (np.zeros((1, CHANNELS)) if features is None else features).astype(np.float16)
    infos = [
        SequenceInfo(id=video.id, num_frames=len(video.frames), action=video.action, splits={"cross-subject": video.side})
        for video in videos
    ]
    points = [np.concatenate([np.array(frame, dtype=np.float32) for frame in video.frames]) for video in videos]
    boxes = [bounding_box(cloud) for cloud in points]
    flat = [frame for video in videos for frame in video.frames]

    def label(name: str, dtype: type, default: int, *, of_points: bool = True) -> np.ndarray:
        rows = []
        for video in videos:
            given = getattr(video, name)
            for number, frame in enumerate(video.frames):
                missing = [default] * len(frame) if of_points else default
                rows.append(np.atleast_1d(np.array(missing if given is None else given[number], dtype=dtype)))
        return np.concatenate(rows)

    slots = [[(0, 0)] * len(frame) for frame in flat]
    if any(video.slots is not None for video in videos):
        slots = [frame for video in videos for frame in video.slots or ()]
    contents = PartContents(
        sequences=tuple(infos),
        point_offsets=np.cumsum([0, *(len(frame) for frame in flat)]).astype(np.int64),
        points=np.concatenate([encode(cloud, box) for cloud, box in zip(points, boxes, strict=True)]),
        boxes=np.stack(boxes),
        patch_slot=np.concatenate([np.array(frame, dtype=np.uint16) for frame in slots]),
        frame_tubelet=np.arange(len(flat), dtype=np.int64),
        feature_offsets=np.arange(len(flat) + 1, dtype=np.int64) * len(table),
        features=np.tile(table, (len(flat), 1)),
        feature_patch=np.tile(np.array(patches, dtype=np.uint16), len(flat)),
        frame_features=np.zeros((len(flat), CHANNELS), dtype=np.float16),
        part_labels=label("parts", np.uint16, 0),
        surface_ids=label("surfaces", np.uint32, 0),
        frame_actions=label("actions", np.int16, 0, of_points=False),
        intrinsics=np.tile(np.eye(3), (len(videos), VIEWS, 1, 1)),
        world_to_camera=np.tile(np.eye(4), (len(videos), VIEWS, 1, 1)),
    )
    writer = CacheWriter(path, make_manifest(len(infos), len(flat), "trained"), None)
    writer.commit(0, contents)
    writer.finish()
    return path


class Coordinates(Encoder):
    """Every point of a clip is a token whose features are its coordinates, or some of them, times weights that are one."""

    def __init__(self, axes: Sequence[int] = (0, 1, 2)) -> None:
        super().__init__()
        self.axes, self.channels = list(axes), len(axes)
        self.weight = nn.Parameter(torch.ones(self.channels))

    def forward(self, points: torch.Tensor) -> Tokens:
        """See `Encoder`."""
        clips, frames, count, _ = points.shape
        frame = torch.arange(frames, device=points.device).repeat_interleave(count).expand(clips, -1)
        places = points.flatten(1, 2)
        return Tokens(features=places[..., self.axes] * self.weight, centroids=places, frame=frame)


def make_evaluation(kind: type[Evaluation], path: Path, settings: EvaluationSettings, encoder: Encoder | None = None) -> Evaluation:
    """An evaluation of `Coordinates`, or another encoder, on a store."""
    source = EncoderSource(
        label="by hand", encoder=encoder or Coordinates(), settings=EncoderSettings(size="tiny"), clips=settings.clips, protocol=None,
        side=None, origin=None, step=0,
    )  # fmt: skip
    return kind(source, ClipDataset(path, settings.clips, targets=False, labels=kind.labels), settings)


def finish(kind: type[Evaluation], path: Path, settings: EvaluationSettings, encoder: Encoder | None = None) -> EvaluationResult:
    """The result of an evaluation from beginning to end."""
    evaluation = make_evaluation(kind, path, settings, encoder)
    for _ in evaluation.run(Resources(device="cpu")):
        pass
    return evaluation.result()


def clips_of(num_frames: int, num_points: int = 2) -> ClipSettings:
    """Clips of consecutive frames."""
    return ClipSettings(num_frames=num_frames, num_points=num_points, stride=1)


def record_rates(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The learning rate of every step of AdamW from now on."""
    rates: list[float] = []

    class Recorder(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    return rates
