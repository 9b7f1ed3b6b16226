"""The pieces of work of a recipe: stores, students, evaluations. Each leaves a file; what is finished is never done again."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from cross4d_cache.build.build import build_store
from cross4d_cache.build.request import BuildRequest
from cross4d_cache.console import follow, say
from cross4d_cache.errors import CacheError, CacheUnreachableError
from cross4d_cache.record import Record
from cross4d_cache.report.store import about_finished, summary
from cross4d_cache.sharing.derive import derive
from cross4d_cache.store import open_cache
from cross4d_cache.work import finish
from cross4d_train.checkpoint import load_checkpoint
from cross4d_train.evaluation.evaluate import EvaluationRequest, evaluate, resolve_settings, write_json
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.resources import Resources
from cross4d_train.run import RunFolder
from cross4d_train.settings import EncoderSettings, Origin, RunSettings
from pipelines.experiment.measures import MEASURES, settings_of

OPTIONS = {"dataset.root": "--data", "teacher.weights": "--teacher NAME=WEIGHTS", "device": "--device", "out": "--out"}
"""What settings that messages name are called by the recipes."""


class Store(Record):
    """A store at a place, and the build that makes it; a control of shuffled points is derived from the store `of` instead."""

    path: Path
    request: BuildRequest = BuildRequest()
    of: "Store | None" = None

    @property
    def needed(self) -> tuple["Store", ...]:
        """This store, after the one that it is derived from."""
        return (self,) if self.of is None else (self.of, self)

    def shuffled(self, name: str) -> "Store":
        """Its control of shuffled points, beside it."""
        return Store(path=self.path.with_name(f"{name}.zarr"), request=self.request, of=self)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.path.stem

    @property
    def origin(self) -> Origin | None:
        """What the finished store is: its settings and its sequences. None while there is none.

        Raises:
            CacheUnreachableError: it cannot be read now.
        """
        try:
            return Origin.of(open_cache(self.path).manifest)
        except CacheUnreachableError:
            raise
        except CacheError:
            return None


class Student(Record):
    """A pre-training run on a store, kept below `root`, or with `settings=None` an encoder with starting weights."""

    name: str
    root: Path = Path()
    store: Store | None = None
    settings: RunSettings | None = None
    seed: int = 0

    def with_seed(self, seed: int) -> "Student":
        """The same with another seed."""
        if self.settings is None:
            return self.model_copy(update={"seed": seed})
        training = self.settings.training.model_copy(update={"seed": seed})
        return self.model_copy(update={"seed": seed, "settings": self.settings.model_copy(update={"training": training})})

    @property
    def folder(self) -> Path:
        """The folder of its run."""
        return self.root / "students" / self.name / f"seed{self.seed}"

    @property
    def checkpoint(self) -> str:
        """What `--checkpoint` is given."""
        return "random" if self.settings is None else str(self.folder / "checkpoint.safetensors")

    def is_done(self) -> bool:
        """Whether it has been trained to the end, with these settings on this store."""
        path = self.folder / "checkpoint.safetensors"
        if self.settings is None or self.store is None:
            return True
        if not path.exists():
            return False
        record = load_checkpoint(path).record
        origin = self.store.origin
        return origin is not None and record.origin == origin and record.settings == self.settings and record.step == record.num_steps

    def run(self, device: str, num_loaders: int) -> None:
        """Train, or go on with a run that was stopped.

        Raises:
            CheckpointError: the folder holds a run with other settings, or on another store.
        """
        assert self.settings is not None
        assert self.store is not None
        folder = RunFolder(self.folder)
        checkpoint = folder.load()
        training = Pretraining(self.store.path, self.settings, make_fabric(device), num_workers=num_loaders, checkpoint=checkpoint)
        for _ in folder.record(training):
            pass


class EvaluationRun(Record):
    """An evaluation of a student on a store, or one of `MEASURES`; `options` are its settings by dotted name. Its result is kept below
    `root`."""

    kind: str
    root: Path
    student: Student
    encoder: EncoderSettings
    store: Store
    options: dict[str, Any]

    def with_seed(self, seed: int) -> "EvaluationRun":
        """The same of the student with that seed, with clips and heads of that seed."""
        seeds = {"seed": seed} | ({"head.seed": seed} if self.kind in ("probe", "robustness", "targets") else {})
        return self.model_copy(update={"student": self.student.with_seed(seed), "options": self.options | seeds})

    @property
    def path(self) -> Path:
        """Where the result is; the name changes with anything that decides it."""
        stores = [self.store, *([self.student.store] if self.student.store else [])]
        decided = [self.kind, self.student.settings, self.encoder, self.options, [store.origin for store in stores]]
        digest = hashlib.sha256(json.dumps(decided, default=lambda item: item.model_dump(mode="json")).encode()).hexdigest()[:12]
        name = re.sub(r"[^\w.-]+", "-", f"{self.kind}_{self.student.name}_{self.store.name}")
        return self.root / "results" / f"{name}_{self.student.seed}_{digest}.json"

    def is_done(self) -> bool:
        """Whether the result is there, of this student as it was trained last, and with the settings that this release resolves to."""
        if self.store.origin is None or not self.path.exists() or not self.student.is_done():
            return False
        checkpoint = Path(self.student.checkpoint)
        if self.student.settings is not None and checkpoint.stat().st_mtime_ns > self.path.stat().st_mtime_ns:
            return False
        resolve = settings_of if self.kind in MEASURES else resolve_settings
        settings = resolve(self.kind, self.store.origin.dataset, self.options)
        return bool(self.result()["settings"] == settings.model_dump(mode="json"))

    @property
    def request(self) -> EvaluationRequest:
        """What is asked of the evaluation."""
        return EvaluationRequest(
            evaluation=self.kind,
            checkpoint=self.student.checkpoint,
            store=str(self.store.path),
            encoder=self.encoder if self.student.settings is None else None,
            options=self.options,
        )

    def run(self, device: str, num_loaders: int) -> None:
        """Evaluate and write the result."""
        if self.kind in MEASURES:
            result: BaseModel = MEASURES[self.kind](self.request)
        else:
            result = finish(evaluate(self.request, Resources(device=device, num_workers=num_loaders)))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(result, self.path)

    def result(self) -> dict[str, Any]:
        """The result that was written."""
        found: dict[str, Any] = json.loads(self.path.read_bytes())
        return found


def build(store: Store) -> dict[str, Any]:
    """A store, and what it is; one that is finished is kept, one that was begun is resumed.

    Raises:
        Cross4DError: whatever the user has to fix.
    """
    say(f"store {store.path}")
    if store.of is not None:
        return summary(follow(derive(store.of.path, store.path), OPTIONS))
    progress = follow(build_store(store.request, store.path), OPTIONS)
    return {**progress.report(), **summary(follow(about_finished(open_cache(store.path)), OPTIONS))}


Piece = Student | EvaluationRun
