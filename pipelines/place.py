"""How much of a target its place in the image explains, and who knows what is left: targets of test videos, told from frozen tokens.

    python -m pipelines.place STORE [--protocol NAME] [--students NAME=CHECKPOINT ...] [--conditioning whiten:32] [--json FILE]

Every predictor is fitted on tokens of the training side and asked for those of the test side: the mean target of each patch index, a
cubic of the token's coordinates, and a linear map of the tokens of each student; `random` is an untrained one. A name that is given
several times, once a seed, gets mean and deviation. What is told is a share of variance: 1 is all of it, 0 what a constant tells, and less
is worse than that. `remainder` is a target minus the mean of its patch index, which place alone cannot tell. The row `the frame before`
says how much of it lasts: the target of the same patch a frame earlier, times one number, which no student is given.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations_with_replacement
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cross4d_cache.errors import SettingsError, user_errors
from cross4d_cache.options import change
from cross4d_cache.store import Cache
from cross4d_cache.types import Side
from cross4d_train.clips import even_requests, select_sequences
from cross4d_train.conditioning import Conditioning, gather_statistics
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.encoder_source import UNTRAINED, EncoderSource, open_source
from cross4d_train.evaluation.features import frozen
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.token_targets import match_points, view_targets
from pipelines.report_file import report_file

RIDGE = 1e-3
"""Of linear maps, as a share of the mean variance of their inputs."""
WINDOWS = 2
BATCH = 16
SIDES: tuple[Side, Side] = ("train", "test")

Shares = dict[str, dict[str, list[float]]]
"""Of each row, by what is told: a number for each student of that name."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Tokens that a camera sees, of one side: what a student makes of them, where they are, their patch index and conditioned target."""

    features: Float[Tensor, "token channel"]
    coordinates: Float[Tensor, "token 3"]
    patches: Int64[Tensor, " token"]
    targets: Float[Tensor, "token target"]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Targets of patches that two frames in a row both hit."""

    now: Float64[Tensor, "pair target"]
    before: Float64[Tensor, "pair target"]
    patches: Int64[Tensor, " pair"]


Tokens = TypeVar("Tokens", Told, Pairs)


def join(parts: Sequence[Tokens]) -> Tokens:
    """What several batches or sequences gave, as one."""
    kind = type(parts[0])
    return kind(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(kind)})


def share_told(
    predictions: Float64[Tensor, "token target"], targets: Float64[Tensor, "token target"], constant: Float64[Tensor, " target"]
) -> float:
    """Which share of the squared distance of targets from a constant the predictions take away."""
    return 1 - float((targets - predictions).square().sum() / (targets - constant).square().sum())


def patch_means(patches: Int64[Tensor, " token"], targets: Float64[Tensor, "token target"], size: int) -> Float64[Tensor, "patch target"]:
    """The mean target of each patch index; of one without a token, that of all."""
    counts = torch.bincount(patches, minlength=size).unsqueeze(1)
    sums = targets.new_zeros(size, targets.shape[1]).index_add_(0, patches, targets)
    return torch.where(counts > 0, sums / counts.clamp(min=1), targets.mean(dim=0))


def linear_map(
    inputs: Float64[Tensor, "token channel"], targets: Float64[Tensor, "token target"], asked: Float64[Tensor, "other channel"]
) -> Float64[Tensor, "other target"]:
    """Ridge regression with a constant, at other inputs."""
    centre, offset = inputs.mean(dim=0), targets.mean(dim=0)
    inputs, asked = inputs - centre, asked - centre
    square = inputs.T @ inputs
    square.diagonal().add_(RIDGE * float(square.diagonal().mean()))
    found: Tensor = asked @ torch.linalg.solve(square, inputs.T @ (targets - offset)) + offset
    return found


def cubic(coordinates: Float64[Tensor, "token 3"]) -> Float64[Tensor, "token 19"]:
    """All products of one, two and three of the coordinates."""
    powers = [axes for degree in (1, 2, 3) for axes in combinations_with_replacement(range(3), degree)]
    return torch.stack([coordinates[:, axes].prod(dim=1) for axes in powers], dim=1)


def tell(encoder: Encoder, dataset: ClipDataset, chosen: Sequence[int], conditioning: Conditioning) -> Told:
    """The seen tokens of evenly spaced clips of some sequences, of the first view that sees them."""
    requests = even_requests(dataset.clips, dataset.cache.sequences, chosen, num_windows=WINDOWS, seed=0)
    parts = list[Told]()
    with frozen(encoder), torch.no_grad():
        for batch in BatchLoader(dataset).load(in_batches(requests, BATCH)):
            tokens = encoder(batch.points)
            points = match_points(tokens, batch.points)
            targets, seen = view_targets(batch, tokens.frame, points, conditioning)
            any_view, view = seen.any(dim=-1), seen.int().argmax(dim=-1)
            clip, token = any_view.nonzero(as_tuple=True)
            view = view[clip, token]
            rows = batch.rows[clip, tokens.frame[clip, token], points[clip, token], view].long()
            parts.append(
                Told(
                    features=tokens.features[clip, token].double(),
                    coordinates=(tokens.centroids - batch.points.mean(dim=(1, 2)).unsqueeze(1))[clip, token].double(),
                    patches=batch.patches[rows].long(),
                    targets=targets[clip, token, view].double(),
                )
            )
    return join(parts)


Predictor = Callable[[Told, Told, Tensor], Tensor]
"""From tokens of the training side, others, and targets of the former to those of the latter."""


def by_patch(train: Told, test: Told, targets: Float64[Tensor, "token target"]) -> Float64[Tensor, "other target"]:
    """The mean of the patch index."""
    size = 1 + int(torch.cat([train.patches, test.patches]).max())
    return patch_means(train.patches, targets, size)[test.patches]


def by_coordinates(train: Told, test: Told, targets: Float64[Tensor, "token target"]) -> Float64[Tensor, "other target"]:
    """A cubic of where tokens are."""
    return linear_map(cubic(train.coordinates), targets, cubic(test.coordinates))


def by_student(train: Told, test: Told, targets: Float64[Tensor, "token target"]) -> Float64[Tensor, "other target"]:
    """A linear map of what a student makes of tokens."""
    return linear_map(train.features, targets, test.features)


OF_PLACE: dict[str, Predictor] = {"patch index": by_patch, "coordinates": by_coordinates}
LASTING = "the frame before"


def shares(predict: Predictor, train: Told, test: Told) -> dict[str, float]:
    """What a predictor tells of whole targets and of the remainder."""
    left = (side.targets - by_patch(train, side, train.targets) for side in (train, test))
    sides = {"target": (train.targets, test.targets), "remainder": tuple(left)}
    return {what: share_told(predict(train, test, known), asked, known.mean(dim=0)) for what, (known, asked) in sides.items()}


def pair_frames(cache: Cache, chosen: Sequence[int], conditioning: Conditioning) -> Pairs:
    """The conditioned targets of some sequences, each with that of its patch a frame earlier."""
    num_patches, parts = cache.manifest.render.views * cache.manifest.teacher.num_patches, list[Pairs]()
    for index in chosen:
        num_frames = cache.sequences[index].num_frames
        clip = cache.read_clip(index, np.arange(num_frames))
        # A feature belongs to the frame of any point that refers to it.
        frame_of_point = np.repeat(np.arange(num_frames), np.diff(clip.point_offsets))
        place = np.full((num_frames, num_patches), -1)
        for rows in clip.rows.T:
            hit = rows >= 0
            place[frame_of_point[hit], clip.patches[rows[hit]]] = rows[hit]
        frame, patch = np.nonzero((place[1:] >= 0) & (place[:-1] >= 0))
        features, patches = torch.from_numpy(clip.features), torch.from_numpy(clip.patches.astype(np.int64))
        targets = conditioning(features, patches).double()
        now, before = targets[place[frame + 1, patch]], targets[place[frame, patch]]
        parts.append(Pairs(now=now, before=before, patches=torch.from_numpy(patch)))
    return join(parts)


def last_shares(train: Pairs, test: Pairs, num_patches: int) -> dict[str, float]:
    """What the frame before tells, of whole targets and of the remainder."""
    found = {}
    constant = train.now.mean(dim=0, keepdim=True).expand(num_patches, -1)
    for what, means in (("target", constant), ("remainder", patch_means(train.patches, train.now, num_patches))):
        (known, earlier), (asked, given) = ((side.now - means[side.patches], side.before - means[side.patches]) for side in (train, test))
        scale = float((known * earlier).sum() / earlier.square().sum())
        found[what] = share_told(scale * given, asked, torch.zeros_like(asked[0]))
    return found


def measure(store: str, protocol: str | None, students: Sequence[tuple[str, str]], conditioning_name: str) -> Shares:
    """For each row, every student's shares in the order given; rows of place are told by the tokens of the first.

    Raises:
        SettingsError: no such conditioning, no trained student, one that has seen test videos, students of different clips, or a name
            that is taken.
    """
    conditioning_name = change(ObjectiveSettings(), {"conditioning": conditioning_name}).conditioning
    trained = [open_source(place, encoder=None, seed=0, dataset="") for _, place in students if place != UNTRAINED]
    check(students, trained, protocol)
    like, protocol = trained[0], protocol or trained[0].protocol
    dataset = ClipDataset(store, like.clips)
    cache = dataset.cache
    train, test = (select_sequences(cache.sequences, cache.manifest.dataset.protocols, protocol=protocol, side=side) for side in SIDES)
    num_patches = cache.manifest.render.views * cache.manifest.teacher.num_patches
    conditioning = Conditioning(conditioning_name, target_channels=cache.manifest.projection.channels, num_patches=num_patches)
    conditioning.fit(gather_statistics(cache, train, "patches"))
    found: Shares = {}

    def add(row: str, told: Mapping[str, float]) -> None:
        for what, share in told.items():
            found.setdefault(row, {}).setdefault(what, []).append(share)

    add(LASTING, last_shares(pair_frames(cache, train, conditioning), pair_frames(cache, test, conditioning), num_patches))
    for number, (name, place) in enumerate(students):
        seed = sum(other == name for other, _ in students[:number])
        encoder = open_source(place, encoder=like.settings if place == UNTRAINED else None, seed=seed, dataset="").encoder
        known, asked = (tell(encoder, dataset, chosen, conditioning) for chosen in (train, test))
        for row, predict in OF_PLACE.items() if number == 0 else ():
            add(row, shares(predict, known, asked))
        add(name, shares(by_student, known, asked))
    return found


def check(students: Sequence[tuple[str, str]], trained: Sequence[EncoderSource], protocol: str | None) -> None:
    """Refuse what cannot be compared."""
    if not trained:
        raise SettingsError("no student that was trained", expected="the checkpoint of one, whose clips are taken", hint="name one")
    taken = {name for name, _ in students} & {LASTING, *OF_PLACE, ""}
    if taken:
        raise SettingsError(f"students called {sorted(taken)}", expected="NAME=CHECKPOINT, with a name of their own", hint="name them so")
    for source in trained:
        if source.clips != trained[0].clips:
            raise SettingsError(
                f"students of different clips: {source.clips}", expected=str(trained[0].clips), hint="measure them one by one"
            )
        if source.side not in ("train", "train+unsplit") or source.protocol != (protocol or trained[0].protocol):
            raise SettingsError(
                f"{source.label} was trained on side {source.side} of protocol {source.protocol}",
                expected="students that have not seen the test videos",
                hint="choose the protocol that they were trained by",
            )


def table(found: Shares) -> str:
    """Rows of Markdown."""
    lines = ["| told by | whole target | remainder |", "|---|---|---|"]
    for name, row in found.items():
        cells = [f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "") for values in row.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--protocol")
    parser.add_argument("--students", nargs="+", default=[], metavar="NAME=CHECKPOINT")
    parser.add_argument("--conditioning", default="whiten:32")
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    arguments = parser.parse_args()
    with user_errors():
        students = [(name, place) for name, _, place in (word.partition("=") for word in arguments.students)]
        found = measure(arguments.store, arguments.protocol, students, arguments.conditioning)
        print(table(found))
        if arguments.json:
            arguments.json.write_text(json.dumps({"conditioning": arguments.conditioning, "shares": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
