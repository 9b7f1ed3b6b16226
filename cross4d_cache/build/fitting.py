"""The first pass of a build whose projection is fitted: principal components of the patch features of a sample of its sequences."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cross4d_cache.build.plan import render_settings
from cross4d_cache.build.prefetch import Preparation, SequenceReader
from cross4d_cache.build.projection import PrincipalComponents, fitted_width, make_projection
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.build.selection import select_sequences
from cross4d_cache.build.targets import TargetMaker
from cross4d_cache.build.windows import batches, windows_of
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import CacheCorruptError
from cross4d_cache.store import stored_projection
from cross4d_cache.teachers.teacher import Teacher
from cross4d_cache.types import SequenceInfo

SAMPLE_FRAMES = 1024
"""Frames that a projection is fitted on, or a few more, as sequences stay whole."""


class ProjectionFit:
    """Finds the matrix of the store at `out`, `None` if its projection needs no fitting. Iterate over `run()`, then take `matrix`.

    Features of a patch count once a tubelet, as in the store. A store that was begun keeps the matrix it has.
    """

    def __init__(self, dataset: Dataset, teacher: Teacher, settings: BuildSettings, out: Path) -> None:
        self.dataset, self.teacher, self.settings, self.out = dataset, teacher, settings, out
        self.matrix: Float32[np.ndarray, "channel_in channel_out"] | None = None
        self.sample: list[SequenceInfo] = []
        self._width = fitted_width(settings.projection, teacher.spec.channels)
        if self._width is not None:
            try:
                self.matrix = stored_projection(out)
            except CacheCorruptError:
                self.matrix = None  # the same again; the build finds out that the stored one is damaged
            self.sample = [] if self.matrix is not None else self._choose()

    @property
    def num_frames(self) -> int:
        """Frames that will be looked at."""
        return sum(info.num_frames for info in self.sample)

    def _choose(self) -> list[SequenceInfo]:
        """Sequences in random order until there are enough frames."""
        sequences = select_sequences(self.dataset, exclude=self.settings.exclude, limit=self.settings.limit)
        order = np.random.default_rng(self.settings.seed).permutation(len(sequences))
        lengths = np.cumsum([sequences[number].num_frames for number in order])
        count = int(np.searchsorted(lengths, SAMPLE_FRAMES)) + 1
        return [sequences[number] for number in sorted(order[:count])]

    def run(self, num_workers: int | None = None) -> Iterator[int]:
        """Fit; yields how many frames have been looked at. `num_workers` processes read, see `SequenceReader`.

        Raises:
            DatasetError: a sequence is damaged.
            SettingsError: too few features, or settings that are unknown or do not go together.
            TeacherError: features that do not fit float16.
        """
        if not self.sample or self._width is None:
            return
        settings, spec = self.settings, self.teacher.spec
        render = render_settings(self.dataset, self.teacher, settings)
        unprojected = make_projection("none", spec.channels, settings.seed)
        maker = TargetMaker(self.teacher, unprojected, render, settings.windows_per_batch(spec, self.teacher.device.type))
        preparation = Preparation(
            dataset=self.dataset, render=render, points_per_frame=settings.points_per_frame, seed=settings.seed, out=self.out
        )
        reader = SequenceReader(preparation=preparation, num_workers=num_workers)
        components, done = PrincipalComponents(spec.channels), 0
        windows = (item for sequence in reader.sequences(self.sample) for item in windows_of(sequence, render, spec.window))
        for batch in batches(windows, maker.windows_per_batch):
            for targets in maker(batch)[0]:
                components.add(targets.features)
                done += len(targets.tubelets)
            yield done
        self.matrix = components.directions(self._width)
