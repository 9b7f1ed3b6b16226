"""The loss on videos that were not trained on, beside what a constant and what the place in the image alone would reach.

A low cosine loss by itself says little: where targets share a direction a constant is good, where they follow the image position a
table of one vector per patch is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

from cross4d_cache.record import Record
from cross4d_cache.store import Cache
from cross4d_train.clips import even_requests
from cross4d_train.conditioning import Conditioning, sample_sequences
from cross4d_train.data import BatchLoader, in_batches
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives.dense import Dense
from cross4d_train.token_targets import match_points, point_targets


class HeldOutLoss(Record):
    """`1 - cos` against the same targets: of the student, of the best constant, and of the best vector for each patch index.

    Both predictors are fitted on the training side.
    """

    student: float
    constant: float
    position: float


def held_out_loss(
    encoder: Encoder, objective: Dense, dataset: ClipDataset, *, train: Sequence[int], test: Sequence[int], seed: int, batch_size: int = 16
) -> HeldOutLoss:
    """Losses over the visible tokens of one clip of each test sequence, on the CPU."""
    encoder, objective = encoder.cpu().eval(), objective.cpu().eval()
    conditioning = objective.conditioning
    table = _mean_directions(dataset.cache, train, conditioning)
    constant = functional.normalize(table.sum(dim=0), dim=0)
    requests = even_requests(dataset.clips, dataset.cache.sequences, test, num_windows=1, seed=seed)
    totals, count = torch.zeros(3, dtype=torch.float64), 0.0
    for batch in BatchLoader(dataset).load(in_batches(requests, batch_size)):
        with torch.no_grad():
            tokens = encoder(batch.points)
            points = match_points(tokens, batch.points)
            targets, visible = point_targets(batch, tokens.frame, points, conditioning)
            if not visible.any():
                continue
            clips = torch.arange(len(batch)).unsqueeze(1)
            rows = batch.rows[clips, tokens.frame, points].long()
            by_position = (table[batch.patches[rows.clamp(min=0)].long()] * (rows >= 0).unsqueeze(-1)).sum(dim=2)
            for place, guess in enumerate((objective.head(tokens.features), constant.expand_as(targets), by_position)):
                totals[place] += (functional.cosine_similarity(guess, targets, dim=-1) * visible).sum().double()
        count += float(visible.sum())
    student, fixed, position = (1 - totals / max(count, 1)).tolist()
    return HeldOutLoss(student=student, constant=fixed, position=position)


def _mean_directions(cache: Cache, chosen: Sequence[int], conditioning: Conditioning) -> Float32[Tensor, "patch channel"]:
    """For each patch index the sum of its conditioned targets, each of length one, over the training side."""
    table = torch.zeros(cache.manifest.render.views * cache.manifest.teacher.num_patches, conditioning.channels)
    for index in sample_sequences(chosen):
        clip = cache.read_clip(index, np.arange(cache.sequences[index].num_frames))
        patches = torch.from_numpy(clip.patches.astype(np.int64))
        table.index_add_(0, patches, functional.normalize(conditioning(torch.from_numpy(clip.features), patches), dim=-1))
    return table
