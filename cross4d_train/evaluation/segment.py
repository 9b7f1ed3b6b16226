"""Segmentation of points: a linear head a point on a frozen encoder (table 6 of the paper), or both trained together (table 17)."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor

from cross4d_cache.errors import SettingsError, printable
from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED_PART
from cross4d_train.augment import augment
from cross4d_train.clips import ClipRequest, epoch_requests, even_requests
from cross4d_train.data import Batch, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import frozen
from cross4d_train.evaluation.heads import AUGMENTATION, Answers, HeadTraining, SegmentHead
from cross4d_train.evaluation.overlap import iou
from cross4d_train.interpolation import spread
from cross4d_train.resources import Resources


class SegmentSettings(EvaluationSettings):
    """How the head, and with `end_to_end` the encoder, are trained; the rate falls along half a cosine.

    `ignored` labels are neither learned, nor predicted, nor scored. Augmentation is for end-to-end training only.
    """

    num_windows: int = Field(default=1, ge=1, le=10_000)
    end_to_end: bool = False
    ignored: tuple[int, ...] = ()
    num_epochs: int = Field(default=20, ge=1, le=100_000)
    batch_size: int = Field(default=8, ge=1, le=10_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=100, allow_inf_nan=False)
    weight_decay: float = Field(default=1e-4, ge=0, le=100, allow_inf_nan=False)


class VideoParts(Record):
    """Points of one test video: how many were labelled and right, and by label how many were labelled, predicted, and both."""

    id: str
    num_points: int
    num_correct: int
    labelled: dict[int, int]
    predicted: dict[int, int]
    both: dict[int, int]


class SegmentResult(EvaluationResult):
    """Intersection over union and recall are averaged over the labels that occur in the test videos."""

    settings: SegmentSettings
    labels: dict[int, str]
    mean_iou: float
    mean_accuracy: float
    overall_accuracy: float
    iou: dict[int, float]
    videos: tuple[VideoParts, ...]

    def describe(self) -> str:
        """The three figures, then every label."""
        how = "trained end to end" if self.settings.end_to_end else "linear head on the frozen encoder"
        lines = [
            self.heading("segmentation", self.settings.protocol),
            f"{how}; {self.settings.num_epochs} epochs, AdamW, rate {self.settings.learning_rate:g}, seed {self.settings.seed}",
            f"mean IoU {self.mean_iou:.4f}   mean accuracy {self.mean_accuracy:.4f}   overall accuracy {self.overall_accuracy:.4f}",
        ]
        return "\n".join(lines + [f"    {printable(self.labels[label]):24}{value:.4f}" for label, value in self.iou.items()])


class Segmentation(Evaluation[SegmentSettings, SegmentResult]):
    """Part or semantic class of every point; logits of tokens reach points by three-nearest interpolation.

    Training clips are random windows, anew every epoch, so memory does not grow with the dataset.
    """

    name = "segment"
    unit = "step"
    labels = True

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: SegmentSettings) -> None:
        super().__init__(source, dataset, settings)
        names = dataset.cache.manifest.dataset.part_names
        if unknown := sorted(label for label in settings.ignored if not 0 <= label < len(names)):
            known = ", ".join(f"{label} {name}" for label, name in enumerate(names))
            raise SettingsError(
                f"`ignored` {unknown[0]}, a label that the store does not have",
                expected=f"one of: {known or '(none)'}",
                hint="correct it, or leave it out",
            )
        self.classes = torch.tensor([label for label in range(len(names)) if label not in settings.ignored], dtype=torch.int64)
        if len(self.classes) < 2:
            raise SettingsError(
                f"the store has {len(names)} part names, {len(self.classes)} of which count",
                expected="labels of points, of at least two classes",
                hint="build a store from a dataset that has them, or ignore fewer",
            )
        self.check_labels("part_labels", "part labels")
        self.encoder = copy.deepcopy(source.encoder) if settings.end_to_end else source.encoder
        self._videos: list[VideoParts] = []

    @property
    def total(self) -> int:
        """Steps of training and of testing."""
        return (self.settings.num_epochs + 1) * self._steps(len(self.train)) + self._steps(len(self.test) * self.settings.num_windows)

    def _steps(self, clips: int) -> int:
        return math.ceil(clips / self.settings.batch_size)

    def run(self, resources: Resources) -> Iterator[int]:
        """Train, then test; yields after every step."""
        self.resources, self.loader = resources, resources.loader(self.dataset)
        encoder = self.encoder.to(resources.torch_device)
        self.head = head = SegmentHead(encoder.channels, len(self.classes), self.settings.seed).to(resources.torch_device)
        with nullcontext() if self.settings.end_to_end else frozen(encoder):
            yield from self._train(encoder, head, resources)
        with frozen(encoder):
            yield from self._recompute_norm(encoder, head, resources)
            yield from self._test(encoder, head.eval(), resources)

    def _train(self, encoder: Encoder, head: SegmentHead, resources: Resources) -> Iterator[int]:
        settings = self.settings
        encoder.train(settings.end_to_end)
        training = HeadTraining([*head.parameters(), *(encoder.parameters() if settings.end_to_end else ())], settings)
        sequences = self.dataset.cache.sequences

        def answer(batch: Batch) -> Answers | None:
            points = augment(batch.points, AUGMENTATION, batch.generator()) if settings.end_to_end else batch.points
            points, target = points.to(resources.torch_device), self._targets(batch).to(resources.torch_device)
            with torch.set_grad_enabled(settings.end_to_end):
                tokens = encoder(points)
            logits = spread(head(tokens.features), tokens, points)
            known = target >= 0
            return (logits[known], target[known]) if known.any() else None

        for epoch in range(settings.num_epochs):
            requests = epoch_requests(self.dataset.clips, sequences, self.train, clips_per_sequence=1, seed=settings.seed, epoch=epoch)
            for batch, _ in training.run_epoch(epoch, self._load(requests), answer):
                yield len(batch)

    def _recompute_norm(self, encoder: Encoder, head: SegmentHead, resources: Resources) -> Iterator[int]:
        """Statistics of the training tokens as the encoder gives them now; those gathered on the way lag behind."""
        head.forget()
        requests = even_requests(self.dataset.clips, self.dataset.cache.sequences, self.train, num_windows=1, seed=self.settings.seed)
        for batch in self._load(requests):
            with torch.no_grad():
                head(encoder(batch.points.to(resources.torch_device)).features)
            yield len(batch)

    def _test(self, encoder: Encoder, head: SegmentHead, resources: Resources) -> Iterator[int]:
        sequences, settings = self.dataset.cache.sequences, self.settings
        requests = even_requests(self.dataset.clips, sequences, self.test, num_windows=settings.num_windows, seed=settings.seed)
        counts = torch.zeros(len(self.test), 3, len(self.classes), dtype=torch.int64)  # labelled, predicted, both
        place_of = {index: place for place, index in enumerate(self.test)}
        for batch in self._load(requests):
            guess = torch.searchsorted(self.classes, self.predict(batch.points))
            target = self._targets(batch)
            for clip, index in enumerate(batch.sequences.tolist()):
                known = target[clip] >= 0
                truth, said = target[clip][known], guess[clip][known]
                for row, chosen in enumerate((truth, said, truth[truth == said])):
                    counts[place_of[index], row] += torch.bincount(chosen, minlength=len(self.classes))
            yield len(batch)
        self._videos = [
            VideoParts(
                id=sequences[index].id,
                num_points=int(labelled.sum()),
                num_correct=int(both.sum()),
                labelled=self._by_label(labelled),
                predicted=self._by_label(predicted),
                both=self._by_label(both),
            )
            for index, (labelled, predicted, both) in zip(self.test, counts, strict=True)
        ]

    @torch.no_grad()
    def predict(self, points: Float32[Tensor, "batch frame point 3"]) -> Int64[Tensor, "batch frame point"]:
        """The label of every point of some clips, metres, once `run` has ended."""
        tokens = self.encoder(points.to(self.resources.torch_device))
        logits = spread(self.head(tokens.features), tokens, points.to(self.resources.torch_device))
        return self.classes[logits.argmax(dim=-1).cpu()]

    def _by_label(self, counts: Int64[Tensor, " class"]) -> dict[int, int]:
        return {label: count for label, count in zip(self.classes.tolist(), counts.tolist(), strict=True) if count}

    def _load(self, requests: Sequence[ClipRequest]) -> Iterator[Batch]:
        return self.loader.load(in_batches(requests, self.settings.batch_size))

    def _targets(self, batch: Batch) -> Int64[Tensor, "batch frame point"]:
        """Positions in `classes`, -1 for points that do not count."""
        if batch.part_labels is None:
            return torch.full(batch.points.shape[:3], -1)
        table = torch.full((UNLABELLED_PART + 1,), -1)
        table[self.classes] = torch.arange(len(self.classes))
        return table[batch.part_labels]

    def result(self) -> SegmentResult:
        """Scores over all points of all test videos."""
        labels = self.classes.tolist()
        counted = [[video.labelled, video.predicted, video.both] for video in self._videos]
        sums = torch.tensor([[[counts.get(label, 0) for label in labels] for counts in video] for video in counted]).sum(dim=0)
        labelled, predicted, both = sums.double()
        if not labelled.any():
            raise SettingsError("no point of the test videos has a label that counts", hint="choose another `protocol`, or ignore fewer")
        present = labelled > 0
        shares = iou(labelled, predicted, both)
        return SegmentResult(
            **self.provenance(),
            settings=self.settings,
            labels={label: self.dataset.cache.manifest.dataset.part_names[label] for label in labels},
            mean_iou=float(shares[present].mean()),
            mean_accuracy=float((both / labelled.clamp(min=1))[present].mean()),
            overall_accuracy=float(both.sum() / labelled.sum()),
            iou={label: float(value) for label, value, there in zip(labels, shares, present, strict=True) if there},
            videos=tuple(self._videos),
        )
