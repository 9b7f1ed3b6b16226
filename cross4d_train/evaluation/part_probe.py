"""Part segmentation by a linear classifier on frozen tokens: does a token know which part of the body it lies on?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import UNLABELLED_PART
from cross4d_train.clips import ClipSettings, even_requests
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.evaluation.overlap import iou
from cross4d_train.initialise import Seed
from cross4d_train.token_targets import match_points

ITERATIONS = 60
"""Of L-BFGS; the loss no longer moves in its third digit then."""


class PartSettings(Record):
    """Which tokens are labelled, and how the classifier is fitted.

    `budgets` are numbers of labelled tokens, drawn `num_draws` times each; all tokens of the training side come on top.
    `weight_decay` is the factor of half the squared weights beside the mean cross-entropy, on standardised features.
    """

    clips: ClipSettings
    num_windows: int = Field(default=1, ge=1, le=10_000)
    seed: Seed = 0
    budgets: tuple[int, ...] = (1000, 200)
    num_draws: int = Field(default=5, ge=1, le=1000)
    weight_decay: float = Field(default=3e-3, ge=0, le=100)


class PartScore(Record):
    """Mean IoU over the parts of the test tokens: with all training tokens labelled, and the mean over draws for each budget."""

    num_train_tokens: int
    num_test_tokens: int
    all: float
    budgets: dict[int, float]


@dataclass(frozen=True, kw_only=True)
class TokenFeatures:
    """Frozen features of tokens and the part that each one's input point belongs to."""

    features: Float32[Tensor, "token channel"]
    parts: Int64[Tensor, " token"]


def extract_tokens(
    encoder: Encoder, dataset: ClipDataset, chosen: Sequence[int], settings: PartSettings, *, batch_size: int, device: torch.device
) -> Iterator[TokenFeatures]:
    """Tokens of evenly spaced clips of some sequences, batch by batch; the dataset must read labels.

    Raises:
        SettingsError: the store has no part labels.
    """
    requests = even_requests(settings.clips, dataset.cache.sequences, chosen, num_windows=settings.num_windows, seed=settings.seed)
    encoder = encoder.to(device).eval()
    for batch in BatchLoader(dataset).load(in_batches(requests, batch_size)):
        if batch.part_labels is None:
            raise SettingsError("the store has no part labels", hint="build one from a dataset that has them")
        points = batch.points.to(device)
        with torch.no_grad():
            tokens = encoder(points)
            nearest = match_points(tokens, points)
        clips = torch.arange(len(batch)).unsqueeze(1)
        parts = batch.part_labels[clips, tokens.frame.cpu(), nearest.cpu()]
        yield TokenFeatures(features=tokens.features.float().flatten(0, 1).cpu(), parts=parts.flatten())


def join_tokens(batches: Sequence[TokenFeatures]) -> TokenFeatures:
    """The tokens of several batches as one."""
    return TokenFeatures(
        features=torch.cat([batch.features for batch in batches]),
        parts=torch.cat([batch.parts for batch in batches]),
    )


def score_parts(train: TokenFeatures, test: TokenFeatures, settings: PartSettings) -> PartScore:
    """Fit a classifier for every budget of labels, and score it on all test tokens.

    Standardisation takes mean and deviation from all training tokens, as those need no label. Tokens whose part is not known do not
    count.
    """
    train, test = _labelled(train), _labelled(test)
    mean, deviation = train.features.mean(dim=0), train.features.std(dim=0, correction=0).clamp(min=1e-6)
    known, asked = (train.features - mean) / deviation, (test.features - mean) / deviation
    num_parts = 1 + int(torch.cat([train.parts, test.parts]).max())

    def score(chosen: Int64[Tensor, " label"]) -> float:
        classifier = _fit(known[chosen], train.parts[chosen], num_parts, settings.weight_decay)
        with torch.no_grad():
            return mean_iou(classifier(asked).argmax(dim=-1), test.parts, num_parts)

    generator = torch.Generator().manual_seed(settings.seed)
    budgets = {}
    for budget in settings.budgets:
        draws = [torch.randperm(len(known), generator=generator)[:budget] for _ in range(settings.num_draws)]
        budgets[budget] = sum(score(draw) for draw in draws) / len(draws)
    return PartScore(num_train_tokens=len(known), num_test_tokens=len(asked), all=score(torch.arange(len(known))), budgets=budgets)


def _labelled(tokens: TokenFeatures) -> TokenFeatures:
    known = tokens.parts != UNLABELLED_PART
    return TokenFeatures(features=tokens.features[known], parts=tokens.parts[known])


def mean_iou(predicted: Int64[Tensor, " token"], parts: Int64[Tensor, " token"], num_parts: int) -> float:
    """Intersection over union, averaged over the parts that occur in `parts`."""
    confusion = torch.bincount(parts * num_parts + predicted, minlength=num_parts**2).view(num_parts, num_parts).double()
    both, of_part, of_guess = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
    present = of_part > 0
    return float(iou(of_part, of_guess, both)[present].mean())


def _fit(features: Float32[Tensor, "token channel"], parts: Int64[Tensor, " token"], num_parts: int, weight_decay: float) -> nn.Linear:
    """Multinomial logistic regression; it starts from zero, so nothing is random."""
    classifier = nn.Linear(features.shape[1], num_parts)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimizer = torch.optim.LBFGS(classifier.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(classifier(features), parts) + weight_decay / 2 * classifier.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return classifier
