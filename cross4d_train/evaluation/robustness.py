"""How much a frozen encoder's probe loses on clips of worse sensors: table 13 of the paper."""

from collections.abc import Iterator

import torch

from cross4d_cache.record import Record
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, VideoPrediction
from cross4d_train.evaluation.corruption import CORRUPTIONS, Corruption
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import VideoFeatures, extract_features, join_features, labelled
from cross4d_train.evaluation.linear import accuracy, check_labels, train_head
from cross4d_train.evaluation.probe import ProbeSettings
from cross4d_train.resources import Resources


class CorruptedScore(Record):
    """Video accuracy on the test clips of one corruption, of heads without and with standardisation."""

    corruption: Corruption
    raw: float
    standardised: float
    raw_predictions: tuple[VideoPrediction, ...]
    standardised_predictions: tuple[VideoPrediction, ...]


class RobustnessResult(EvaluationResult):
    """Heads were trained on clean clips once; only test clips are corrupted."""

    settings: ProbeSettings
    scores: tuple[CorruptedScore, ...]

    def describe(self) -> str:
        """A line for each corruption."""
        lines = [
            self.heading("robustness", self.settings.protocol),
            f"heads trained on clean clips; {self.settings.num_windows} windows a video, video accuracy",
            "test clips            standardisation off      on",
        ]
        lines += [
            f"{score.corruption.kind + ': ' + str(score.corruption):22}{score.raw:19.3f}{score.standardised:8.3f}" for score in self.scores
        ]
        return "\n".join(lines)


class Robustness(Evaluation[ProbeSettings, RobustnessResult]):
    """Accuracy of a linear probe on test clips with fewer frames, fewer points, or noise; its head is trained on clean clips."""

    name = "robustness"

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: ProbeSettings) -> None:
        super().__init__(source, dataset, settings)
        check_labels(self.actions(self.train), self.actions(self.test))
        least = min(CORRUPTIONS, key=lambda corruption: (corruption.kind != "points", corruption.level))
        clips = torch.zeros(1, settings.clips.num_frames, settings.clips.num_points, 3)
        with torch.no_grad():
            source.encoder(least.apply(clips, torch.Generator()).to(next(source.encoder.parameters()).device))  # or it would fail late
        self._train: list[VideoFeatures] = []
        self._test: dict[str, list[VideoFeatures]] = {}

    @property
    def total(self) -> int:
        """Training videos once, test videos clean and for every corruption."""
        return len(self.train) + len(self.test) * len({str(corruption) for corruption in CORRUPTIONS})

    def run(self, resources: Resources) -> Iterator[str]:
        """Compute the frozen features; yields the id of each video that is done."""
        self.resources = resources
        device, pooling = resources.torch_device, self.settings.pooling
        encoder, loader = self.source.encoder, resources.loader(self.dataset)
        for part in extract_features(encoder, loader, self.train, self.settings, device, pooling=pooling):
            self._train.append(part)
            yield from part.ids
        for corruption in CORRUPTIONS:
            if str(corruption) in self._test:
                continue  # the clean clips of the three kinds are the same
            kept = self._test.setdefault(str(corruption), [])
            for part in extract_features(encoder, loader, self.test, self.settings, device, pooling=pooling, corruption=corruption):
                kept.append(part)
                yield from part.ids

    def result(self) -> RobustnessResult:
        """Train both heads and ask them."""
        train = labelled(join_features(self._train))
        heads = [train_head(train, self.settings.head, standardise=switch) for switch in (False, True)]
        scores = []
        for corruption in CORRUPTIONS:
            test = labelled(join_features(self._test[str(corruption)]))
            raw, standardised = (head.predict(test) for head in heads)
            scores.append(
                CorruptedScore(
                    corruption=corruption,
                    raw=accuracy(raw),
                    standardised=accuracy(standardised),
                    raw_predictions=raw,
                    standardised_predictions=standardised,
                )
            )
        return RobustnessResult(**self.provenance() | self.count_labelled(), settings=self.settings, scores=tuple(scores))
