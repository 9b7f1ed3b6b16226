"""Whether a frozen encoder knows a piece of surface again in another frame: table 16 of the paper, against true tracks."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float32, Int64
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_train.clips import even_requests
from cross4d_train.data import in_batches
from cross4d_train.dataset import NO_SURFACE, ClipDataset
from cross4d_train.evaluation.base import Evaluation, EvaluationResult, EvaluationSettings
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.features import frozen
from cross4d_train.interpolation import spread
from cross4d_train.resources import Resources

USUAL_GAPS = (8, 15)
"""Frames of the clip between both that are matched (table 16)."""

MATCHERS = ("features", "coordinates", "chance")


class CorrespondenceSettings(EvaluationSettings):
    """Frames of a clip that are `gaps` apart are matched; a match is right within `tolerance` times the diagonal of the bounding box.

    Without `gaps`, they are those of `USUAL_GAPS` that fit into the clip, or its longest. At most `num_queries` points a pair of frames
    are asked, of those whose piece of surface both frames show.
    """

    num_windows: int = Field(default=1, ge=1, le=10_000)
    gaps: tuple[int, ...] | None = None
    tolerance: float = Field(default=0.02, gt=0, le=1)
    num_queries: int = Field(default=512, ge=1, le=1_000_000)


class GapScore(Record):
    """Share of right matches across one gap, by features, by coordinates (what a match by place alone gives) and by a random point."""

    gap: int
    num_queries: int
    features: float
    coordinates: float
    chance: float
    videos: dict[str, tuple[int, int, int, int]]
    """For each video how many points were asked, and how many of them each of the three had right."""


class CorrespondenceResult(EvaluationResult):
    """A score for every gap, over all pairs of frames of the test videos."""

    settings: CorrespondenceSettings
    scores: tuple[GapScore, ...]

    def describe(self) -> str:
        """A line for each gap."""
        lines = [
            self.heading("correspondence", self.settings.protocol),
            f"matches within {self.settings.tolerance:.0%} of the bounding box's diagonal",
            "gap, frames   features   raw coordinates   random point   points asked",
        ]
        lines += [f"{s.gap:11}{s.features:11.3f}{s.coordinates:18.3f}{s.chance:15.3f}{s.num_queries:15,}" for s in self.scores]
        return "\n".join(lines)


class Correspondence(Evaluation[CorrespondenceSettings, CorrespondenceResult]):
    """For a point of one frame the point with the nearest feature in another, compared with where its piece of surface really went.

    Features of points come from tokens by three-nearest interpolation; the nearest is that of the largest cosine.
    """

    name = "correspondence"
    labels = True
    learns = False

    def __init__(self, source: EncoderSource, dataset: ClipDataset, settings: CorrespondenceSettings) -> None:
        self.gaps = _gaps(settings)
        super().__init__(source, dataset, settings.model_copy(update={"gaps": self.gaps}))
        self.check_labels("surface_ids", "surface ids (tracks)")
        self._found: dict[int, dict[str, Int64[Tensor, " count"]]] = {gap: {} for gap in self.gaps}

    @property
    def total(self) -> int:
        """Clips of the test videos."""
        return len(self.test) * self.settings.num_windows

    def run(self, resources: Resources) -> Iterator[str]:
        """Match frames; yields the id of the video of every clip."""
        self.resources = resources
        settings, sequences = self.settings, self.dataset.cache.sequences
        requests = even_requests(self.dataset.clips, sequences, self.test, num_windows=settings.num_windows, seed=settings.seed)
        starts: dict[int, list[int]] = {}
        for request in requests:
            starts.setdefault(request.sequence, []).append(request.start)
        encoder = self.source.encoder.to(resources.torch_device)
        with frozen(encoder):
            for batch in resources.loader(self.dataset).load(in_batches(requests, 1)):
                points = batch.points.to(resources.torch_device)
                with torch.no_grad():
                    tokens = encoder(points)
                    features = functional.normalize(spread(tokens.features, tokens, points)[0], dim=-1)
                info, generator = sequences[int(batch.sequences)], batch.generator()
                frames = self.dataset.clips.frames(info, starts[int(batch.sequences)].pop(0))
                for gap in self.gaps:
                    counts = self._found[gap].setdefault(info.id, torch.zeros(1 + len(MATCHERS), dtype=torch.int64))
                    for first in sorted({0, (len(frames) - gap) // 2, len(frames) - gap - 1}):
                        if batch.surface_ids is None or frames[first + gap] - frames[first] != gap * settings.clips.stride:
                            continue  # the last frame of a sequence that is too short repeats
                        counts += match_frames(
                            points[0, [first, first + gap]].cpu(),
                            features[[first, first + gap]].cpu(),
                            batch.surface_ids[0, [first, first + gap]],
                            tolerance=settings.tolerance,
                            num_queries=settings.num_queries,
                            generator=generator,
                        )
                yield info.id

    def result(self) -> CorrespondenceResult:
        """Scores over all videos."""
        scores = []
        for gap, videos in self._found.items():
            total = torch.stack(list(videos.values())).sum(dim=0)
            if total[0] == 0:
                raise SettingsError(
                    f"no piece of surface is seen twice, {gap} frames apart", expected="points with tracks", hint="raise `clips.num_points`"
                )
            features, coordinates, chance = (total[1:] / total[0]).tolist()
            found = {name: tuple(counts.tolist()) for name, counts in videos.items()}
            scores.append(
                GapScore(gap=gap, num_queries=int(total[0]), features=features, coordinates=coordinates, chance=chance, videos=found)
            )
        return CorrespondenceResult(**self.provenance(), settings=self.settings, scores=tuple(scores))


def _gaps(settings: CorrespondenceSettings) -> tuple[int, ...]:
    longest = settings.clips.num_frames - 1
    gaps = settings.gaps
    if gaps is None:
        gaps = tuple(gap for gap in USUAL_GAPS if gap <= longest) or (longest,)
    if not gaps or max(gaps) > longest or min(gaps) < 1:
        raise SettingsError(
            f"gaps {', '.join(map(str, gaps)) or 'none'} in clips of {longest + 1} frames",
            expected=f"gaps of 1 to {longest} frames of the clip" if longest else "clips of two frames or more",
            hint="name others with `gaps`, or raise `clips.num_frames`" if longest else "raise `clips.num_frames`",
        )
    return gaps


def match_frames(
    points: Float32[Tensor, "2 point 3"],
    features: Float32[Tensor, "2 point channel"],
    surface_ids: Int64[Tensor, "2 point"],
    *,
    tolerance: float,
    num_queries: int,
    generator: torch.Generator,
) -> Int64[Tensor, "4"]:
    """How many points of the first frame were asked, and how many matches in the second are right by features, coordinates, chance.

    A match is right if it lies within `tolerance` times the diagonal of the first frame's bounding box of any point of the true piece.
    Features have length one.
    """
    before, after = surface_ids
    shared = torch.isin(before, after) & (before != NO_SURFACE)
    asked = shared.nonzero().flatten()
    asked = asked[torch.randperm(len(asked), generator=generator)[:num_queries]]
    if len(asked) == 0:
        return torch.zeros(1 + len(MATCHERS), dtype=torch.int64)
    radius = tolerance * (points[0].amax(dim=0) - points[0].amin(dim=0)).norm()
    # Distance from every point of the second frame to the nearest point of the true piece of surface.
    same = before[asked].unsqueeze(1) == after
    between = _distances(points[1], points[1])
    guesses = (
        (features[0][asked] @ features[1].T).argmax(dim=1),
        _distances(points[0][asked], points[1]).argmin(dim=1),
        torch.randint(len(after), (len(asked),), generator=generator),
    )
    right: list[Bool[Tensor, " query"]] = [(between[guess].masked_fill(~same, torch.inf).amin(dim=1) <= radius) for guess in guesses]
    return torch.tensor([len(asked), *(int(hits.sum()) for hits in right)])


def _distances(ours: Float32[Tensor, "one 3"], theirs: Float32[Tensor, "other 3"]) -> Float32[Tensor, "one other"]:
    # Through a matrix product, as is the default, they would be off by centimetres far from the origin.
    return torch.cdist(ours, theirs, compute_mode="donot_use_mm_for_euclid_dist")
