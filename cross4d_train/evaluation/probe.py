"""The linear probe of an encoder on a store: tables 1 and 11 of the paper, with standardisation off and on."""

from collections.abc import Iterator

import torch
from pydantic import BaseModel, ConfigDict, Field

from cross4d_train.clips import ClipSettings, resolve_protocol, select_sequences
from cross4d_train.data import ClipDataset
from cross4d_train.evaluation.features import VideoFeatures, extract_features, join_features
from cross4d_train.evaluation.linear import HeadScore, HeadSettings, check_labels, fit_head, labelled
from cross4d_train.evaluation.source import EncoderSource
from cross4d_train.initialise import Seed
from cross4d_train.settings import EncoderSettings, Origin


class ProbeSettings(BaseModel):
    """Which clips are probed, and how. `seed` chooses the points of every clip; the head has its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clips: ClipSettings
    num_windows: int = Field(default=5, ge=1, le=10_000)
    seed: Seed = 0
    protocol: str | None = None
    head: HeadSettings = HeadSettings()


class ProbeResult(BaseModel):
    """A probe and everything needed to repeat it.

    `pretraining` is the cache the encoder learned from, None for an untrained one; `evaluation` is the cache probed here.
    `teacher` and `random_teacher` are those of pre-training. `test_seen_in_pretraining` says that it used clips of test videos,
    never their labels; None if the checkpoint does not tell, having learned from another selection of the same dataset.
    Videos too short for a clip repeat their last frame and count; as some publications leave them out, the accuracies over
    the test videos with a full clip stand beside (`*_full_clip`, None if there is no such video).
    """

    checkpoint: str
    step: int
    encoder: EncoderSettings
    settings: ProbeSettings
    pretraining: Origin | None
    evaluation: Origin
    teacher: str
    random_teacher: bool
    test_seen_in_pretraining: bool | None
    num_classes: int
    num_train_videos: int
    num_test_videos: int
    num_unlabelled_videos: int
    num_short_videos: int
    num_full_clip_test_videos: int
    raw: HeadScore
    standardised: HeadScore
    raw_full_clip: float | None
    standardised_full_clip: float | None


class LinearProbe:
    """A probe of one encoder on the two sides of one protocol of a store.

    Raises:
        SettingsError: labels or sides that no probe can work with.
    """

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: ProbeSettings) -> None:
        sequences, protocols = dataset.cache.sequences, dataset.cache.manifest.dataset.protocols
        self.source, self.dataset = source, dataset
        self.settings = settings.model_copy(update={"protocol": resolve_protocol(protocols, settings.protocol)})
        self.train = select_sequences(sequences, protocols, protocol=self.settings.protocol, side="train")
        self.test = select_sequences(sequences, protocols, protocol=self.settings.protocol, side="test")
        check_labels([sequences[index].action for index in self.train], [sequences[index].action for index in self.test])
        self.num_test_seen = self._count_test_seen()
        self._parts: dict[str, list[VideoFeatures]] = {"train": [], "test": []}

    def _count_test_seen(self) -> int | None:
        """How many test videos the encoder was pre-trained on, judged by dataset and sequence ids; None if that cannot be told."""
        cache, learned = self.dataset.cache, self.source.origin
        here = Origin.of(cache.manifest)
        if learned is None or self.source.side is None or learned.dataset != here.dataset:
            return 0
        protocols, side = cache.manifest.dataset.protocols, self.source.side
        protocol = self.source.protocol or protocols[0]
        if learned.sequences != here.sequences or (side != "all" and protocol not in protocols):
            return None
        return sum(side == "all" or cache.sequences[index].splits.get(protocol) == side for index in self.test)

    def extract(self, device: torch.device, *, batch_size: int = 16, num_workers: int = 0) -> Iterator[str]:
        """Compute the frozen features; yields the id of each video that is done."""
        for side, chosen in (("train", self.train), ("test", self.test)):
            for part in extract_features(
                self.source.encoder,
                self.dataset,
                chosen,
                num_windows=self.settings.num_windows,
                seed=self.settings.seed,
                batch_size=batch_size,
                device=device,
                num_workers=num_workers,
            ):
                self._parts[side].append(part)
                yield from part.ids

    def result(self) -> ProbeResult:
        """Train both heads on the extracted features."""
        train, test = (labelled(join_features(self._parts[side])) for side in ("train", "test"))
        sequences, origin = self.dataset.cache.sequences, self.source.origin
        chosen = self.train + self.test
        full = {sequences[index].id for index in self.test if sequences[index].num_frames >= self.settings.clips.span}
        raw, standardised = (fit_head(train, test, self.settings.head, standardise=switch) for switch in (False, True))
        return ProbeResult(
            checkpoint=self.source.label,
            step=self.source.step,
            encoder=self.source.settings,
            settings=self.settings,
            pretraining=origin,
            evaluation=Origin.of(self.dataset.cache.manifest),
            teacher=origin.teacher if origin else "none: the encoder is untrained",
            random_teacher=origin.random_teacher if origin else False,
            test_seen_in_pretraining=None if self.num_test_seen is None else self.num_test_seen > 0,
            num_classes=len(set(train.actions.tolist())),
            num_train_videos=len(train.ids),
            num_test_videos=len(test.ids),
            num_unlabelled_videos=len(chosen) - len(train.ids) - len(test.ids),
            num_short_videos=sum(sequences[index].num_frames < self.settings.clips.span for index in chosen),
            num_full_clip_test_videos=len(full.intersection(test.ids)),
            raw=raw,
            standardised=standardised,
            raw_full_clip=raw.accuracy_over(full),
            standardised_full_clip=standardised.accuracy_over(full),
        )
