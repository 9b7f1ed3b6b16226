"""Segmentation of recordings into actions, a class for every frame, with the protocol of HOI4D (accuracy, edit score, F1 of segments)."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED, SequenceInfo
from cross4d_train.clips import ClipRequest, ClipSettings, epoch_requests
from cross4d_train.data import Batch, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Tokens
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import frozen
from cross4d_train.evaluation.heads import Answers, HeadTraining, SegmentHead
from cross4d_train.evaluation.segments import Matches, edit_score, match_segments
from cross4d_train.resources import Resources

OVERLAPS = (0.10, 0.25, 0.50)


class ActionSegmentSettings(EvaluationSettings):
    """How the head on the frozen encoder is trained; the rate falls along half a cosine. A test recording is covered whole, so the number
    of windows says nothing here.
    """

    num_epochs: int = Field(default=30, ge=1, le=100_000)
    batch_size: int = Field(default=8, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)


class RecordingActions(Record):
    """One test recording, frame by frame; frames without a label are left out."""

    id: str
    actions: tuple[int, ...]
    predicted: tuple[int, ...]


class ActionSegmentResult(EvaluationResult):
    """Accuracy over all frames; the edit score is a mean over recordings; F1 counts segments of all recordings together."""

    settings: ActionSegmentSettings
    accuracy: float
    edit: float
    f1: dict[str, float]
    recordings: tuple[RecordingActions, ...]

    def describe(self) -> str:
        """The five figures."""
        settings = self.settings
        names = "".join(f"   F1@{name}" for name in self.f1)
        return "\n".join(
            [
                self.heading("action segmentation", settings.protocol),
                f"linear head on the frozen encoder; AdamW, rate {settings.learning_rate:g}, {settings.num_epochs} epochs, "
                f"seed {settings.seed}",
                f"accuracy    edit{names}",
                f"{self.accuracy:8.3f}{self.edit:8.3f}" + "".join(f"{value:8.3f}" for value in self.f1.values()),
            ]
        )


class ActionSegmentation(Evaluation[ActionSegmentSettings, ActionSegmentResult]):
    """Class of every frame from the mean of its tokens, by a linear head on the frozen encoder."""

    name = "segment-actions"
    unit = "step"
    labels = True

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: ActionSegmentSettings) -> None:
        super().__init__(source, dataset, settings)
        self.num_classes = len(dataset.cache.manifest.dataset.action_names)
        if self.num_classes < 2:
            raise SettingsError(
                f"the store names {self.num_classes} actions",
                expected="a store with labels of frames, as of HOI4D",
                hint="build one from a dataset that has them",
            )
        self.check_labels("frame_actions", "labels of frames")
        self._recordings: list[RecordingActions] = []

    @property
    def total(self) -> int:
        """Steps of training, then test recordings."""
        return self.settings.num_epochs * math.ceil(len(self.train) / self.settings.batch_size) + len(self.test)

    def run(self, resources: Resources) -> Iterator[object]:
        """Train the head, then cover every test recording; yields after every step and recording."""
        self.resources, self.loader = resources, resources.loader(self.dataset)
        encoder = self.source.encoder.to(resources.torch_device)
        head = SegmentHead(encoder.channels, self.num_classes, self.settings.seed).to(resources.torch_device)
        with frozen(encoder):
            yield from self._train(head, resources)
            head.eval()
            for index in self.test:
                self._recordings.append(self._label(index, head, resources))
                yield index

    def _train(self, head: SegmentHead, resources: Resources) -> Iterator[object]:
        settings, training = self.settings, HeadTraining(head.parameters(), self.settings)

        def answer(batch: Batch) -> Answers | None:
            target = self._targets(batch).to(resources.torch_device)
            known = target != UNLABELLED
            return (head(self._frames(batch, resources))[known], target[known]) if known.any() else None

        for epoch in range(settings.num_epochs):
            requests = epoch_requests(
                self.dataset.clips, self.dataset.cache.sequences, self.train, clips_per_sequence=1, seed=settings.seed, epoch=epoch
            )
            for batch, _ in training.run_epoch(epoch, self._load(requests), answer):
                yield len(batch)

    @torch.no_grad()
    def _label(self, index: int, head: SegmentHead, resources: Resources) -> RecordingActions:
        info = self.dataset.cache.sequences[index]
        requests = covering_requests(self.dataset.clips, info, index, seed=self.settings.seed)
        shares = torch.zeros(info.num_frames, self.num_classes)
        true = torch.full((info.num_frames,), UNLABELLED)
        clips = iter(requests)
        for batch in self._load(requests):
            found = head(self._frames(batch, resources)).softmax(dim=-1).cpu()
            for share, labels, request in zip(found, self._targets(batch), clips, strict=False):
                frames = torch.from_numpy(self.dataset.clips.frames(info, request.start))
                shares.index_add_(0, frames, share)
                true[frames] = labels
        known = true != UNLABELLED
        return RecordingActions(id=info.id, actions=tuple(true[known].tolist()), predicted=tuple(shares.argmax(dim=-1)[known].tolist()))

    def _frames(self, batch: Batch, resources: Resources) -> Float32[Tensor, "batch frame channel"]:
        with torch.no_grad():
            return frame_features(self.source.encoder(batch.points.to(resources.torch_device)), batch.points.shape[1])

    def _targets(self, batch: Batch) -> Int64[Tensor, "batch frame"]:
        return torch.full(batch.points.shape[:2], UNLABELLED) if batch.frame_actions is None else batch.frame_actions

    def _load(self, requests: Sequence[ClipRequest]) -> Iterator[Batch]:
        return self.loader.load(in_batches(requests, self.settings.batch_size))

    def result(self) -> ActionSegmentResult:
        """Scores over all test recordings."""
        pairs = [(item.predicted, item.actions) for item in self._recordings if item.actions]
        if not pairs:
            raise SettingsError("no frame of the test recordings has an action label", hint="choose another `protocol`")
        right = [mine == other for predicted, true in pairs for mine, other in zip(predicted, true, strict=True)]
        return ActionSegmentResult(
            **self.provenance(),
            settings=self.settings,
            accuracy=sum(right) / len(right),
            edit=sum(edit_score(*pair) for pair in pairs) / len(pairs),
            f1={f"{100 * overlap:.0f}": f1_score(pairs, overlap) for overlap in OVERLAPS},
            recordings=tuple(self._recordings),
        )


def f1_score(pairs: Sequence[tuple[Sequence[int], Sequence[int]]], overlap: float) -> float:
    """F1 of the segments of all recordings together, each predicted and true frames."""
    return sum((match_segments(*pair, overlap) for pair in pairs), start=Matches(0, 0, 0)).f1


def frame_features(tokens: Tokens, num_frames: int) -> Float32[Tensor, "batch frame channel"]:
    """The mean of a frame's tokens; a frame without any has those of the nearest frame that has some, of two the earlier.

    All frames with tokens have equally many, frame after frame, as encoders give them.
    """
    known = tokens.frame[0].unique()
    source = (torch.arange(num_frames, device=known.device).unsqueeze(1) - known).abs().argmin(dim=1)
    means: Tensor = tokens.features.float().unflatten(1, (len(known), -1)).mean(dim=2)
    return means[:, source]


def covering_requests(clips: ClipSettings, info: SequenceInfo, index: int, *, seed: int) -> list[ClipRequest]:
    """Clips whose frames are all frames of a sequence: one after another for every frame that a stride can begin with, the last of which
    moves back to end within the sequence. In sequences that are too short the last frame repeats, as in training.
    """
    last = clips.windows(info) - 1
    starts: set[int] = set()
    for first in range(min(clips.stride, info.num_frames)):
        latest = max(first, last - (last - first) % clips.stride)
        starts |= {min(start, latest) for start in range(first, info.num_frames, clips.num_frames * clips.stride)}
    return [ClipRequest(sequence=index, start=start, key=(seed, index, start)) for start in sorted(starts)]
