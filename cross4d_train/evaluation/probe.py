"""The linear probe of an encoder on a store: tables 1 and 11 of the paper, with standardisation off and on."""

from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.base import EvaluationResult
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import FeatureEvaluation, FeatureSettings
from cross4d_train.evaluation.linear import HeadScore, HeadSettings, check_labels, fit_head


class ProbeSettings(FeatureSettings):
    """How clips are pooled, and how the head is trained; it has a seed of its own."""

    head: HeadSettings = HeadSettings()


class ProbeResult(EvaluationResult):
    """Videos too short for a clip repeat their last frame and count; as some publications leave them out, the accuracies over
    the test videos with a full clip stand beside (`*_full_clip`, None if there is no such video).
    """

    settings: ProbeSettings
    num_classes: int
    num_unlabelled_videos: int
    num_short_videos: int
    num_full_clip_test_videos: int
    raw: HeadScore
    standardised: HeadScore
    raw_full_clip: float | None
    standardised_full_clip: float | None

    def describe(self) -> str:
        """Accuracies without and with standardisation."""
        head = self.settings.head
        lines = [
            self.heading("probe", self.settings.protocol),
            f"{self.num_classes} classes; {self.num_full_clip_test_videos} of the test videos have a full clip of "
            f"{self.settings.clips.span} frames",
            f"head: {head.optimizer}, rate {head.learning_rate:g}, {head.num_epochs} epochs, seed {head.seed}; "
            f"{self.settings.num_windows} windows a video, tokens pooled by their {self.settings.pooling}",
            "standardisation   clip accuracy   video accuracy   full clip only   training accuracy",
        ]
        for label, score, full in (
            ("off", self.raw, self.raw_full_clip),
            ("on", self.standardised, self.standardised_full_clip),
        ):
            shown = "none" if full is None else f"{full:.3f}"
            lines.append(
                f"{label:15}   {score.clip_accuracy:13.3f}   {score.video_accuracy:14.3f}   {shown:>14}   {score.train_accuracy:17.3f}"
            )
        return "\n".join(lines)


class LinearProbe(FeatureEvaluation[ProbeSettings, ProbeResult]):
    """Linear action probe of a frozen encoder, with standardisation of the features off and on."""

    name = "probe"

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: ProbeSettings) -> None:
        super().__init__(source, dataset, settings)
        check_labels(self.actions(self.train), self.actions(self.test))

    def result(self) -> ProbeResult:
        """Train both heads on the extracted features."""
        train, test = self.features()
        sequences = self.dataset.cache.sequences
        chosen = self.train + self.test
        full = {sequences[index].id for index in self.test if sequences[index].num_frames >= self.settings.clips.span}
        raw, standardised = (fit_head(train, test, self.settings.head, standardise=switch) for switch in (False, True))
        return ProbeResult(
            **self.provenance() | {"num_train_videos": len(train.ids), "num_test_videos": len(test.ids)},
            settings=self.settings,
            num_classes=len(set(train.actions.tolist())),
            num_unlabelled_videos=len(chosen) - len(train.ids) - len(test.ids),
            num_short_videos=sum(sequences[index].num_frames < self.settings.clips.span for index in chosen),
            num_full_clip_test_videos=len(full.intersection(test.ids)),
            raw=raw,
            standardised=standardised,
            raw_full_clip=raw.accuracy_over(full),
            standardised_full_clip=standardised.accuracy_over(full),
        )
