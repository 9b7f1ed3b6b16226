"""Sampling and grouping of points in plain torch, all frames of a batch at once: no compiled operator, same on CPU and CUDA.

Nothing here carries gradients, and everything is float32 whatever the autocast state: coordinates do not survive bfloat16.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from torch.nn import functional

MOST_DISTANCES = {"cpu": 2**21, "cuda": 2**27, "meta": 2**62}
"""How many distances exist at a time: few enough to stay in a cache, many enough to fill a GPU; on meta, none exists."""

Scores = Float32[Tensor, "part query point"]
Norms = Float32[Tensor, "part query"]
Found = Int64[Tensor, "part query neighbour"]


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context in which a device computes in the precision of its tensors; meta, which does not compute, has no other."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


@torch.no_grad()
def farthest_points(points: Float32[Tensor, "cloud point 3"], num_samples: int) -> Int64[Tensor, "cloud sample"]:
    """Farthest point sampling from point 0 on, ties to the lowest index.

    Any first `m` samples are also the farthest point sampling of the samples themselves, so coarser levels need no second run.
    """
    num_clouds, num_points, _ = points.shape
    if num_samples > num_points:
        raise ValueError(f"{num_samples} samples of clouds of {num_points} points")
    axes = points.permute(2, 0, 1).contiguous()  # one contiguous plane an axis: three times faster than strided on a CPU
    samples = torch.zeros(num_clouds, num_samples, dtype=torch.int64, device=points.device)
    if points.is_meta:
        return samples  # thousands of steps that would compute nothing
    nearest = torch.full((num_clouds, num_points), torch.inf, device=points.device)
    offset, squared = torch.empty_like(nearest), torch.empty_like(nearest)
    for sample in range(1, num_samples):
        last = axes.gather(2, samples[:, sample - 1 : sample].expand(3, -1, -1))
        torch.sub(axes[0], last[0], out=squared).square_()
        for axis in (1, 2):
            torch.sub(axes[axis], last[axis], out=offset)
            squared.addcmul_(offset, offset)
        torch.minimum(nearest, squared, out=nearest)
        torch.argmax(nearest, dim=1, out=samples[:, sample])
    return samples


@torch.no_grad()
def nearest_points(
    points: Float32[Tensor, "cloud point 3"], queries: Float32[Tensor, "cloud query 3"], num_neighbours: int
) -> Int64[Tensor, "cloud query neighbour"]:
    """The points nearest to each query, nearest first.

    Distances come from one matrix product about the cloud's centre: twice as fast as differences, and the order of two
    neighbours is only open where their squared distances differ by less than 1e-6 of the cloud's squared extent.
    """

    def search(scores: Scores, _: Norms) -> Found:
        return scores.topk(num_neighbours, dim=-1, largest=False).indices

    return _search(points, queries, search)


@torch.no_grad()
def ball_query(
    points: Float32[Tensor, "cloud point 3"], queries: Float32[Tensor, "cloud query 3"], num_neighbours: int, radius: float
) -> Int64[Tensor, "cloud query neighbour"]:
    """The first points, in the order of the cloud, within `radius` of each query; if there are too few, the first of them again.

    As in PointNet++ and what descends from it, except that where no point lies within the radius, all are the nearest one (there
    they are point 0, however far away). Distances are rounded as in `nearest_points`.
    """

    def search(scores: Scores, norms: Norms) -> Found:
        counts = (scores <= (radius**2 - norms).unsqueeze(-1)).cumsum(dim=-1, dtype=torch.int32)
        wanted = torch.arange(1, num_neighbours + 1, dtype=torch.int32, device=points.device)
        # Where the count first reaches n is the n-th point of the ball.
        found = torch.searchsorted(counts, wanted.expand(*counts.shape[:2], -1).contiguous())
        empty = counts[..., -1:] == 0
        first = torch.where(empty, scores.argmin(dim=-1, keepdim=True), found[..., :1])
        return torch.where(found < points.shape[1], found, first)

    return _search(points, queries, search)


def _search(
    points: Float32[Tensor, "cloud point 3"],
    queries: Float32[Tensor, "cloud query 3"],
    search: Callable[[Scores, Norms], Found],
) -> Int64[Tensor, "cloud query neighbour"]:
    """What `search` finds, some clouds at a time, in their scores and the squared norms of their queries: the sum is the squared distance.

    `|p|^2 - 2 p.q`, the score, ranks the points of one query as their distances do.
    """
    with without_autocast(points.device):
        centre = points.mean(dim=1, keepdim=True)
        points, queries = points - centre, queries - centre
        point_norms, query_norms = (cloud.square().sum(dim=-1) for cloud in (points, queries))
        size = max(1, MOST_DISTANCES[points.device.type] // (points.shape[1] * queries.shape[1]))
        return torch.cat(
            [
                search(torch.baddbmm(norms.unsqueeze(1), asked, known.transpose(1, 2), alpha=-2), asked_norms)
                for known, asked, norms, asked_norms in zip(
                    points.split(size), queries.split(size), point_norms.split(size), query_norms.split(size), strict=True
                )
            ]
        )


@torch.no_grad()
def ball_neighbours(
    points: Float32[Tensor, "cloud point 3"], queries: Float32[Tensor, "cloud query 3"], num_neighbours: int, radius: float
) -> tuple[Int64[Tensor, "cloud query neighbour"], Float32[Tensor, "cloud query neighbour 3"]]:
    """The nearest points within `radius`, and their offsets from the query in units of the radius.

    A group with too few points within the radius is filled up with its nearest one.
    """
    neighbours = nearest_points(points, queries, num_neighbours)
    offsets = (take(points, neighbours) - queries.unsqueeze(2)) / radius
    outside = offsets.square().sum(dim=-1, keepdim=True) > 1
    neighbours = torch.where(outside.squeeze(-1), neighbours[..., :1], neighbours)
    return neighbours, torch.where(outside, offsets[:, :, :1], offsets)


def take(values: Float[Tensor, "cloud point channel"], indices: Int64[Tensor, "cloud *index"]) -> Float[Tensor, "cloud *index channel"]:
    """Rows of each cloud's own table."""
    num_clouds, num_points, channels = values.shape
    first = torch.arange(num_clouds, device=values.device).mul(num_points).view(-1, *[1] * (indices.ndim - 1))
    # An embedding look-up, because its backward pass is several times faster than that of an index.
    return functional.embedding(indices + first, values.reshape(num_clouds * num_points, channels))
