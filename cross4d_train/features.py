"""Features of points: of your own with `load`, and of clips of a store, from the student and from its teacher."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.options import change
from cross4d_cache.types import CachedClip
from cross4d_train.checkpoint import Checkpoint, check_weights, load_checkpoint, load_encoder, load_weights
from cross4d_train.clips import ClipSettings
from cross4d_train.encoders import ENCODERS
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.interpolation import spread
from cross4d_train.objectives.dense import Dense
from cross4d_train.objectives.objective import TargetSpec
from cross4d_train.places import checkpoint_at
from cross4d_train.recording import Points, Recording, RecordingTokens, Window, arrays_of, like, split
from cross4d_train.report.colours import Palette
from cross4d_train.resources import Resources
from cross4d_train.soundness import finite_features

POINTS_AT_A_TIME = 2**15
"""Points that get their features at a time."""


class Student:
    """A trained encoder with the head it was trained with, for your own recordings.

    A recording is `(frame, point, 3)`, or a list of `(point, 3)`, one a frame, where frames differ: numpy or torch, metres, consecutive
    frames at the frame rate of the stores that the student learned from, in their axes (x right, y down, z forward). Where the origin
    lies does not matter but for rounding. What comes back is of the same kind.

    The encoder sees what it saw in training: windows of `clips.num_frames` frames, every `clips.stride`-th, and `clips.num_points` points
    of each frame, as `recording.split` and `recording.draw_points` say; features of tokens are interpolated to all points. So memory is
    bounded but for the result, and equal recordings give equal features on one machine. In another order of points, others are drawn.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, known_as: str | None = None) -> None:
        self.record, self.device = checkpoint.record, device
        self.encoder: Encoder = load_encoder(checkpoint, known_as).eval().to(device)
        self._objective = checkpoint.part("objective")

    def __repr__(self) -> str:
        settings, origin = self.record.settings, self.record.origin
        encoder, clips = settings.encoder, settings.clips
        return (
            f"<Student {encoder.name} {encoder.size}, {self.channels} channels: {settings.objective.name}, step {self.record.step:,} of"
            f" {self.record.num_steps:,} on {origin.dataset}, teacher {origin.teacher}; clips of {clips.num_frames} x {clips.num_points:,}"
            f" points, stride {clips.stride}; on {self.device}>"
        )

    @property
    def channels(self) -> int:
        """Width of a feature."""
        return self.encoder.channels

    @property
    def clips(self) -> ClipSettings:
        """The clips it learned from."""
        return self.record.settings.clips

    def features(self, points: Points, *, stride: int | None = None) -> Points:
        """The feature of every point: `(frame, point, channel)`, or a list of `(point, channel)`.

        `stride` replaces that of the clips in training; give 1 if frames were left out already.

        Raises:
            SettingsError: what is no recording, or not in metres.
            CheckpointError: features that are not finite.
        """
        return like(points, list(self.by_frame(Recording.of(points), stride=stride)))

    def by_frame(self, recording: Recording, *, stride: int | None = None) -> Iterator[Float32[np.ndarray, "_ channel"]]:
        """The features of one frame after another; memory holds those of `num_frames * stride` frames at most.

        Raises:
            SettingsError: as `features`.
            CheckpointError: as `features`.
        """
        for windows in self._groups(recording, stride):
            found = dict[int, Float32[np.ndarray, "_ channel"]]()
            for window in windows:
                tokens = self._encode(recording, window)
                for place in window.counted:
                    frame = window.frames[place]
                    found[frame] = self._interpolate(tokens, place, recording.frames[frame])
            yield from (found[frame] for frame in sorted(found))

    def tokens(self, points: Points, *, stride: int | None = None) -> RecordingTokens:
        """The encoder's own tokens, not interpolated; of each frame those of the window in which it counts.

        In a recording that is too short, tokens of the repeated frames are tokens of the last frame.

        Raises:
            SettingsError: as `features`.
            CheckpointError: as `features`.
        """
        recording = Recording.of(points)
        found = [self._tokens(recording, window) for windows in self._groups(recording, stride) for window in windows]
        order = np.argsort(np.concatenate([tokens.frames for tokens in found]), kind="stable")
        features, centroids, frames = (
            np.concatenate([getattr(tokens, name) for tokens in found])[order] for name in ("features", "centroids", "frames")
        )
        return RecordingTokens(features=features, centroids=centroids, frames=frames)

    def embedding(self, points: Points, *, stride: int | None = None) -> Float32[np.ndarray, " channel"]:
        """One vector for the whole recording, the mean of its tokens, as probes take it of a clip. Raises as `features`."""
        mean: Float32[np.ndarray, " channel"] = self.tokens(points, stride=stride).features.mean(axis=0)
        return mean

    def predict(self, points: Points, *, stride: int | None = None) -> Points:
        """What the student expects the teacher to say of every point: features as in the stores that it learned from, after projection.

        It learned directions about the mean of targets, not lengths: these are such that over the recording predictions have the deviation
        of whitened targets, one.

        Raises:
            SettingsError: as `features`, or an objective that predicts nothing of points.
            CheckpointError: as `features`, or a head that is missing or does not fit.
        """
        head = self.head
        with torch.inference_mode():
            features = map(torch.from_numpy, self.by_frame(Recording.of(points), stride=stride))
            predictions = restore(head, [head.head(frame) for frame in features])
        return like(points, [prediction.numpy() for prediction in predictions])

    @cached_property
    def head(self) -> Dense:
        """The objective that it was trained with, on the CPU.

        Raises:
            SettingsError: it is not dense, so it predicts nothing of points.
            CheckpointError: it is missing, or does not fit.
        """
        settings = self.record.settings.objective
        if settings.kind != "dense":
            raise SettingsError(
                f"a student trained with objective {settings.name}, which predicts no features of points",
                expected="objective dense",
                hint="take its features, or train a student with `objective.name` dense",
            )
        means = self._objective.get("conditioning.means")
        if means is None or means.ndim != 2:
            raise CheckpointError(
                "the checkpoint has no head for predictions",
                expected="the whole file of a run",
                hint="use the checkpoint of the run itself",
            )
        targets = TargetSpec(channels=means.shape[1], num_views=1, num_patches=len(means))
        with torch.device("meta"):  # settings from elsewhere may ask for any amount of memory; weights say how much there is
            check_weights(Dense(settings, self.encoder, targets), self._objective, "objective")
        objective = Dense(settings, self.encoder, targets)
        load_weights(objective, self._objective, "objective")
        return objective.eval()

    def _groups(self, recording: Recording, stride: int | None) -> Iterator[list[Window]]:
        recording.check_unit(self.encoder.reach)
        return split(len(recording), change(self.clips, {} if stride is None else {"stride": stride}))

    def _encode(self, recording: Recording, window: Window) -> Tokens:
        """The tokens of a window, a batch of one clip."""
        points = torch.from_numpy(recording.clip(window, self.clips.num_points)).to(self.device)
        with torch.inference_mode(), finite_features(self.encoder):
            tokens: Tokens = self.encoder(points.unsqueeze(0))
        return tokens

    def _interpolate(self, tokens: Tokens, place: int, points: Float32[np.ndarray, "_ 3"]) -> Float32[np.ndarray, "_ channel"]:
        """The features of the points of one frame of a window, some at a time."""
        with torch.inference_mode():
            parts = [
                spread(tokens.features, tokens, some.to(self.device)[None, None], first_frame=place)[0, 0].cpu()
                for some in torch.from_numpy(points).split(POINTS_AT_A_TIME)
            ]
            features: Float32[np.ndarray, "_ channel"] = torch.cat(parts).numpy()
        return features

    def _tokens(self, recording: Recording, window: Window) -> RecordingTokens:
        tokens = self._encode(recording, window)
        places = tokens.frame[0].cpu().numpy()
        kept = places >= window.counted.start
        return RecordingTokens(
            features=tokens.features[0].float().cpu().numpy()[kept],
            centroids=tokens.centroids[0].cpu().numpy()[kept],
            frames=np.array(window.frames)[places[kept]],
        )


def load(place: Path | str, *, sha256: str | None = None, encoder: type[Encoder] | str | None = None, device: str = "auto") -> Student:
    """The student at a place: the folder of a run, a checkpoint file, a folder that `cross4d-train export` wrote, a zip of it, such a file
    at `http://` or `https://`, or a hub id `OWNER/NAME` or `OWNER/NAME@REVISION`. Nothing that lies there is executed.

    With `sha256`, that of the safetensors file wherever it lies, another file is refused before it is read. `device` is auto, cpu, cuda or
    cuda:N.

    `encoder` is the class of its encoder, or `module:Class`, which is imported: of one that is neither of this package nor installed.

    Raises:
        CheckpointError: there is none, it cannot be read, or it has another hash.
        CacheUnreachableError: a server does not answer.
        SettingsError: there is no such device, or an address of another kind.
        OutputError: what is loaded from elsewhere cannot be kept.
    """
    known_as = None if encoder is None else ENCODERS.name_of(encoder)
    return Student(load_checkpoint(checkpoint_at(place, sha256=sha256)), Resources(device=device).torch_device, known_as)


def pca_colours(features: Points) -> Points:
    """Red, green and blue in [0, 1] for the features of a recording, equal where features are: their first three principal components."""
    frames = [torch.from_numpy(frame) for frame in arrays_of(features)]
    palette = Palette.of(torch.cat(frames))
    return like(features, [palette.colours(frame).numpy() for frame in frames])


def restore(objective: Dense, predictions: Sequence[Float32[Tensor, "_ channel"]]) -> list[Float32[Tensor, "_ channel_in"]]:
    """Targets of the store from what a head predicts, which are conditioned ones.

    The cosine leaves the length of a prediction open; whitened targets have a deviation of one.
    """
    length = torch.cat(list(predictions)).square().mean().sqrt()
    return [objective.conditioning.restore(prediction / length) for prediction in predictions]


def encoder_features(encoder: Encoder, clip: CachedClip) -> Float32[Tensor, "_ width"]:
    """An encoder's features of all stored points of a clip, all of which it sees at once."""
    counts = np.diff(clip.point_offsets)
    most = int(counts.max())
    padded = [np.resize(np.arange(start, start + count), most) for start, count in zip(clip.point_offsets, counts, strict=False)]
    points = torch.from_numpy(clip.points[np.stack(padded)])[None]
    with torch.inference_mode():
        tokens = encoder(points)
        features = spread(tokens.features, tokens, points)[0]
    return torch.cat([frame[:count] for frame, count in zip(features, counts, strict=True)])


def student_features(
    clips: Sequence[CachedClip], checkpoint: Path
) -> tuple[list[Float32[Tensor, "_ channel"]], list[Float32[Tensor, "_ width"]]]:
    """For all stored points of each clip the target that the student predicts, and its own features, as `encoder_features`."""
    student = load(checkpoint, device="cpu")
    own = [encoder_features(student.encoder, clip) for clip in clips]
    with torch.inference_mode():
        return restore(student.head, [student.head.head(features) for features in own]), own


def teacher_features(clip: CachedClip) -> Float32[Tensor, "point channel"]:
    """The target of every stored point of a clip, zero where there is none."""
    return torch.from_numpy(clip.targets()[0])
