"""The nearest neighbours of frozen features: no training, so no learning rate that could decide the result."""

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from cross4d_cache.record import Record
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.base import EvaluationResult, VideoPrediction
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import FeatureEvaluation, FeatureSettings, VideoFeatures
from cross4d_train.evaluation.linear import accuracy, check_labels, moments, predictions

MOST_COSINES = 2**26
"""How many exist at a time."""


class NeighbourSettings(FeatureSettings):
    """How clips are pooled, and how many training clips vote for each test clip, each with its cosine as weight."""

    num_neighbours: int = Field(default=10, ge=1, le=100_000)


class NeighbourScore(Record):
    """Accuracy over test videos; a video's votes are those of all its windows."""

    video_accuracy: float
    predictions: tuple[VideoPrediction, ...]


class NeighbourResult(EvaluationResult):
    """Accuracies without and with standardisation by the training clips."""

    settings: NeighbourSettings
    raw: NeighbourScore
    standardised: NeighbourScore

    def describe(self) -> str:
        """Accuracies without and with standardisation."""
        return "\n".join(
            [
                self.heading(f"{self.settings.num_neighbours} nearest neighbours", self.settings.protocol),
                f"{self.settings.num_windows} windows a video, tokens pooled by their {self.settings.pooling}",
                "standardisation   video accuracy",
                f"off               {self.raw.video_accuracy:14.3f}",
                f"on                {self.standardised.video_accuracy:14.3f}",
            ]
        )


class NearestNeighbours(FeatureEvaluation[NeighbourSettings, NeighbourResult]):
    """Actions of test videos by the training clips whose frozen features are nearest by cosine."""

    name = "knn"

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: NeighbourSettings) -> None:
        super().__init__(source, dataset, settings)
        check_labels(self.actions(self.train), self.actions(self.test))

    def result(self) -> NeighbourResult:
        """Let the neighbours vote."""
        train, test = self.features()
        return NeighbourResult(
            **self.provenance() | {"num_train_videos": len(train.ids), "num_test_videos": len(test.ids)},
            settings=self.settings,
            raw=self._score(train, test, standardise=False),
            standardised=self._score(train, test, standardise=True),
        )

    def remarks(self) -> list[str]:
        """As of every evaluation, what its features lack, and whether there are enough neighbours."""
        train, _ = self.features()
        clips, asked = len(train.ids) * self.settings.num_windows, self.settings.num_neighbours
        many = [f"{asked} neighbours of {clips} training clips: all of them vote for every test clip"] if asked >= clips else []
        return super().remarks() + many

    def _score(self, train: VideoFeatures, test: VideoFeatures, *, standardise: bool) -> NeighbourScore:
        mean, deviation = moments(train.features.flatten(0, 1)) if standardise else (torch.zeros(()), torch.ones(()))
        predicted = vote(
            ((train.features - mean) / deviation).flatten(0, 1),
            train.actions.repeat_interleave(self.settings.num_windows),
            (test.features - mean) / deviation,
            self.settings.num_neighbours,
        )
        found = predictions(test, predicted)
        return NeighbourScore(video_accuracy=accuracy(found), predictions=found)


def vote(
    known: Float32[Tensor, "clip channel"],
    actions: Int64[Tensor, " clip"],
    asked: Float32[Tensor, "video window channel"],
    num_neighbours: int,
) -> Int64[Tensor, " video"]:
    """The action with the largest sum of cosines among the neighbours of a video's windows; of equal ones the lowest."""
    classes, targets = actions.unique(return_inverse=True)
    known, winners = functional.normalize(known, dim=-1), []
    for videos in functional.normalize(asked, dim=-1).split(max(1, MOST_COSINES // (len(known) * asked.shape[1]))):
        nearest = (videos @ known.T).topk(min(num_neighbours, len(known)), dim=-1)
        # Cosines between -1 and 1 as votes between 0 and 1: a far neighbour must not count against its own class.
        votes = torch.zeros(*videos.shape[:2], len(classes)).scatter_add_(2, targets[nearest.indices], (1 + nearest.values) / 2)
        winners.append(classes[votes.sum(dim=1).argmax(dim=-1)])
    return torch.cat(winners)
