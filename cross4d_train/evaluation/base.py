"""What every evaluation is: an encoder, a store, settings; work that reports its progress; a result that can be repeated from its JSON."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from pydantic import Field

from cross4d_cache.errors import SettingsError, printable
from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED, Address, Side
from cross4d_train.clips import ClipSettings, resolve_protocol, select_sequences
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.encoder_source import EncoderSource, recorded_places
from cross4d_train.initialise import Seed
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings, Origin, RunSettings


class EvaluationSettings(Record):
    """Which clips are looked at. `seed` chooses the points of every clip, and everything random that follows."""

    clips: ClipSettings
    num_windows: int = Field(default=5, ge=1, le=10_000)
    seed: Seed = 0
    protocol: str | None = None


class VideoPrediction(Record):
    """What was said of one test video."""

    id: str
    action: int
    predicted: int


class EvaluationResult(Record):
    """A result and everything needed to repeat it.

    `training` are the settings of the run that the encoder comes from, and `pretraining` the cache that it learned from, None for an
    untrained one; `evaluation` is the cache it was judged on. `teacher` and `random_teacher` are those of pre-training.
    `test_seen_in_pretraining` says that it used clips of test videos, never their labels; None if the checkpoint does not tell,
    having learned from another selection of the same dataset.
    """

    checkpoint: Address
    step: int
    encoder: EncoderSettings
    training: RunSettings | None
    pretraining: Origin | None
    evaluation: Origin
    teacher: str
    random_teacher: bool
    test_seen_in_pretraining: bool | None
    num_train_videos: int
    num_test_videos: int
    device: str
    software: dict[str, str]

    @abstractmethod
    def describe(self) -> str:
        """A table for people."""

    def heading(self, what: str, protocol: str | None) -> str:
        """The lines above the table: what was judged on what, and who the teacher was."""
        side = "" if protocol is None else f", protocol {protocol}"
        teacher = f"{self.teacher} WITH RANDOM WEIGHTS" if self.random_teacher else self.teacher
        judged = (
            f"{what} of {self.checkpoint} ({self.encoder.name} {self.encoder.size}) on {self.evaluation.dataset}{side}: "
            f"{self.num_train_videos} training and {self.num_test_videos} test videos"
        )
        return f"{printable(judged)}\n{printable(f'teacher: {teacher}')}"


Settings = TypeVar("Settings", bound=EvaluationSettings)
Result = TypeVar("Result", bound=EvaluationResult, covariant=True)


class Evaluation(ABC, Generic[Settings, Result]):
    """An evaluation of one encoder on the two sides of one protocol of a store.

    Iterate over `run()`, which takes the time, then take `result()`.

    Raises:
        SettingsError: labels, sides or settings that it cannot work with.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "video"
    labels: ClassVar[bool] = False
    """Whether it needs the labels of points and frames."""
    learns: ClassVar[bool] = True
    """Whether it needs a training side. Without one, test videos are those of the test side and those that are on no side of any
    protocol; all, where there are none of either."""

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: Settings) -> None:
        sequences, protocols = dataset.cache.sequences, dataset.cache.manifest.dataset.protocols
        self.source, self.dataset = source, dataset
        self.resources = Resources(device="cpu")
        self.train: tuple[int, ...] = ()
        if not self.learns:
            protocol = None if settings.protocol is None and not protocols else resolve_protocol(protocols, settings.protocol)
            on_test_side = [info.splits.get(str(protocol)) == "test" for info in sequences]
            self.test = tuple(index for index, info in enumerate(sequences) if on_test_side[index] or not info.splits)
            self.test = self.test or tuple(range(len(sequences)))
            self.settings = settings.model_copy(update={"protocol": protocol if any(on_test_side) else None})
            return
        self.settings = settings.model_copy(update={"protocol": resolve_protocol(protocols, settings.protocol)})
        self.train = select_sequences(sequences, protocols, protocol=self.settings.protocol, side="train")
        self.test = select_sequences(sequences, protocols, protocol=self.settings.protocol, side="test")

    @property
    @abstractmethod
    def total(self) -> int:
        """How many items `run` yields."""

    @abstractmethod
    def run(self, resources: Resources) -> Iterator[object]:
        """Do the work; an item is yielded for each piece of it."""

    @abstractmethod
    def result(self) -> Result:
        """What was found."""

    @property
    def num_test_seen(self) -> int | None:
        """How many test videos the encoder was pre-trained on, by its run or one whose weights that began with, judged by dataset and
        sequence ids; None if that cannot be told."""
        source = self.source
        if source.origin is None or source.side is None:
            return 0
        ancestors = [] if source.training is None else source.training.ancestors
        seen = [self._find_seen(source.origin, source.side, source.protocol)]
        seen += [self._find_seen(run.origin, run.settings.training.side, run.settings.training.protocol) for run in ancestors]
        known = [some for some in seen if some is not None]
        return len(set[int]().union(*known)) if len(known) == len(seen) else None

    def _find_seen(self, learned: Origin, side: Side, protocol: str | None) -> set[int] | None:
        """The test videos that one run was trained on, None if that cannot be told."""
        cache = self.dataset.cache
        here, protocols = Origin.of(cache.manifest), cache.manifest.dataset.protocols
        if learned.dataset != here.dataset:
            return set()
        protocol = protocol or (protocols[0] if protocols else None)
        if learned.sequences != here.sequences or (side not in ("all", "unsplit") and protocol not in protocols):
            return None
        return {index for index in self.test if cache.sequences[index].is_on(side, protocol)}

    def remarks(self) -> list[str]:
        """What makes a result say little, a line each; known once `run` has ended."""
        manifest = self.dataset.cache.manifest
        if manifest.teacher.makes_targets and not any(part.num_visible for part in manifest.parts):
            return ["no point of the store is visible to any camera: were its points where they should be?"]
        return []

    def check_labels(self, name: str, what: str) -> None:
        """Refuse a side none of whose sequences has labels of points or frames.

        Raises:
            SettingsError: there is such a side.
        """
        cache, first = self.dataset.cache, np.zeros(1, np.int64)
        for side, chosen in (("training", self.train), ("test", self.test)):
            clips = (cache.read_clip(index, first, targets=False, labels=True) for index in chosen)
            if chosen and all(getattr(clip, name) is None for clip in clips):
                raise SettingsError(
                    f"no sequence on the {side} side has {what}",
                    expected=f"a store with {what}",
                    hint="build one from a dataset that has them",
                )

    def actions(self, chosen: tuple[int, ...]) -> list[int]:
        """The actions of some sequences."""
        return [self.dataset.cache.sequences[index].action for index in chosen]

    def count_labelled(self) -> dict[str, int]:
        """How many videos there are with an action."""
        known = [sum(action != UNLABELLED for action in self.actions(side)) for side in (self.train, self.test)]
        return dict(zip(("num_train_videos", "num_test_videos"), known, strict=True))

    def provenance(self) -> dict[str, Any]:
        """The fields that every result has."""
        origin = self.source.origin
        return {
            "checkpoint": recorded_places([self.source.label])[0],
            "step": self.source.step,
            "encoder": self.source.settings,
            "training": self.source.training,
            "pretraining": origin,
            "evaluation": Origin.of(self.dataset.cache.manifest),
            "teacher": origin.teacher if origin else "none: the encoder is untrained",
            "random_teacher": origin.random_teacher if origin else False,
            "test_seen_in_pretraining": None if self.num_test_seen is None else self.num_test_seen > 0,
            "num_train_videos": len(self.train),
            "num_test_videos": len(self.test),
            "device": self.resources.torch_device.type,
            "software": {name: version(name) for name in ("cross4d", "torch", "numpy", "scipy")},
        }
