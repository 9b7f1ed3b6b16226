"""Whether the same piece of surface has the same target in another frame."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt32

from cross4d_cache.report.fidelity.report import Agreement
from cross4d_cache.types import CachedClip

MOST_PAIRS = 300
"""Of two frames."""


@dataclass(frozen=True, kw_only=True)
class FrameTargets:
    """The points of a frame that are seen: surface ids, targets (the mean over the views that see a point), and their first patch."""

    ids: UInt32[np.ndarray, " point"]
    targets: Float32[np.ndarray, "point channel"]
    patches: Int64[np.ndarray, " point"]


def frame_targets(clip: CachedClip, frame: int) -> FrameTargets:
    """Those of frame `frame` of a clip with surface ids."""
    assert clip.surface_ids is not None
    start, stop = clip.point_offsets[frame], clip.point_offsets[frame + 1]
    rows = clip.rows[start:stop]
    seen = np.flatnonzero((rows >= 0).any(axis=1))
    rows = rows[seen]
    weights = (rows >= 0).astype(np.float32)
    features = clip.features[np.maximum(rows, 0)].astype(np.float32)
    first = rows[np.arange(len(rows)), (rows >= 0).argmax(axis=1)]
    return FrameTargets(
        ids=clip.surface_ids[start:stop][seen],
        targets=(features * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True),
        patches=clip.patches[first].astype(np.int64),
    )


@dataclass(kw_only=True)
class Pairs:
    """Gathers pairs of frames `gap` apart."""

    gap: int
    _same: list[bool] = field(default_factory=list)
    _pairs: list[Float32[np.ndarray, "two pair channel"]] = field(default_factory=list)
    _floors: list[Float32[np.ndarray, "two pair channel"]] = field(default_factory=list)

    def add(self, before: FrameTargets, after: FrameTargets, rng: np.random.Generator) -> None:
        """Match two frames; of pieces of surface with several points the first counts."""
        _, first, second = np.intersect1d(before.ids, after.ids, return_indices=True)
        if len(first) > MOST_PAIRS:
            chosen = np.sort(rng.permutation(len(first))[:MOST_PAIRS])
            first, second = first[chosen], second[chosen]
        self._pairs.append(np.stack([before.targets[first], after.targets[second]]))
        moved, other = rng.permutation(len(before.ids)), rng.permutation(len(after.ids))
        self._floors.append(np.stack([before.targets[moved[first]], after.targets[other[second]]]))
        self._same += (before.patches[first] == after.patches[second]).tolist()

    def agreement(self) -> Agreement | None:
        """The figures, None without pairs."""
        if not self._same:
            return None
        pairs, floors = (np.concatenate(held, axis=1).astype(np.float64) for held in (self._pairs, self._floors))
        mean = pairs.reshape(-1, pairs.shape[-1]).mean(axis=0)
        return Agreement(
            gap=self.gap,
            pairs=pairs.shape[1],
            raw=_cosine(pairs),
            raw_floor=_cosine(floors),
            centred=_cosine(pairs - mean),
            centred_floor=_cosine(floors - mean),
            same_patch=float(np.mean(self._same)),
        )


def _cosine(pairs: Float64[np.ndarray, "2 pair channel"]) -> float:
    lengths = np.linalg.norm(pairs, axis=2).prod(axis=0)
    return float((pairs.prod(axis=0).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
