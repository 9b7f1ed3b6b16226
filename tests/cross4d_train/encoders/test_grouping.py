import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_train.encoders.grouping import MOST_DISTANCES, ball_neighbours, ball_query, farthest_points, nearest_points, take

clouds = st.builds(
    lambda seed, num_clouds, num_points, grid: _cloud(seed, num_clouds, num_points, grid),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.integers(2, 24),
    st.booleans(),
)


def _cloud(seed: int, num_clouds: int, num_points: int, grid: bool) -> torch.Tensor:
    """Points in general position, or on a coarse grid where ties and duplicates abound."""
    generator = torch.Generator().manual_seed(seed)
    if grid:
        return torch.randint(0, 4, (num_clouds, num_points, 3), generator=generator).float()
    return torch.randn(num_clouds, num_points, 3, generator=generator)


def reference_farthest(points: torch.Tensor, num_samples: int) -> list[int]:
    chosen = [0]
    while len(chosen) < num_samples:
        best, best_distance = 0, torch.tensor(-1.0)
        for candidate in range(len(points)):
            distance = torch.stack([_squared(points[candidate], points[index]) for index in chosen]).min()
            if distance > best_distance:
                best, best_distance = candidate, distance
        chosen.append(best)
    return chosen


def _squared(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    x, y, z = (other - one).unbind()
    return torch.zeros(()).addcmul(x, x).addcmul(y, y).addcmul(z, z)  # rounds as the fast path does


@settings(max_examples=15, deadline=None, derandomize=True)
@given(points=clouds, share=st.floats(0, 1))
def test_farthest_points_match_the_reference(points, share):
    num_samples = max(1, min(8, round(share * points.shape[1])))
    expected = [reference_farthest(cloud, num_samples) for cloud in points]
    assert farthest_points(points, num_samples).tolist() == expected


@settings(max_examples=25, deadline=None, derandomize=True)
@given(points=clouds)
def test_farthest_points_of_the_samples_are_their_beginning(points):
    samples = take(points, farthest_points(points, points.shape[1]))
    coarse = farthest_points(samples, points.shape[1] // 2)
    assert torch.equal(take(samples, coarse), samples[:, : points.shape[1] // 2])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(points=clouds, share=st.floats(0, 1))
def test_nearest_points_match_the_reference(points, share):
    num_neighbours = max(1, round(share * points.shape[1]))
    queries = points[:, ::2] + 0.01
    distances = (queries.unsqueeze(2) - points.unsqueeze(1)).square().sum(dim=-1)
    found = nearest_points(points, queries, num_neighbours)
    assert torch.allclose(distances.gather(2, found), distances.sort(dim=-1).values[..., :num_neighbours], atol=1e-4)
    assert all(len(set(row.tolist())) == num_neighbours for row in found.flatten(0, 1))


def test_nearest_points_far_from_the_origin():
    points = _cloud(0, 1, 500, False) * 0.3 + 100
    found = nearest_points(points, points, 1)
    assert torch.equal(found[0, :, 0], torch.arange(500))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(points=clouds, radius=st.floats(0.1, 3))
def test_ball_holds_points_within_the_radius_and_repeats_the_nearest(points, radius):
    count = min(5, points.shape[1])
    neighbours, offsets = ball_neighbours(points, points[:, :3], count, radius)
    assert (offsets.norm(dim=-1) <= 1 + 1e-5).all()
    assert torch.allclose(take(points, neighbours) - points[:, :3].unsqueeze(2), offsets * radius, atol=1e-5)
    distances = (points[:, :3].unsqueeze(2) - points.unsqueeze(1)).norm(dim=-1)
    within = (distances < radius * 0.999).sum(dim=-1).clamp(max=count)
    for cloud, query in [(c, q) for c in range(len(points)) for q in range(min(3, points.shape[1]))]:
        assert len(set(neighbours[cloud, query].tolist())) >= within[cloud, query]


def reference_ball(points: torch.Tensor, query: torch.Tensor, count: int, radius: float) -> list[int]:
    found = [index for index, point in enumerate(points) if (point - query).square().sum() <= radius**2][:count]
    if not found:
        found = [int((points - query).square().sum(dim=-1).argmin())]
    return found + found[:1] * (count - len(found))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(points=clouds, count=st.integers(1, 6), radius=st.floats(0.15, 3))
def test_ball_query_matches_the_reference(points, count, radius):
    queries = points[:, :4] + torch.tensor([0.03, 0.05, 0.07])  # no two points of the grid are equally far
    distances = (queries.unsqueeze(2) - points.unsqueeze(1)).norm(dim=-1)
    if ((distances - radius).abs() < 1e-3).any():
        return  # rounding decides
    found = ball_query(points, queries, count, radius)
    for cloud, asked, mine in zip(points, queries, found.tolist(), strict=True):
        for query, ball in zip(asked, mine, strict=True):
            expected = reference_ball(cloud, query, count, radius)
            empty = ((cloud - query).norm(dim=-1) > radius).all()  # then either of two equal points is the nearest
            assert ball == expected or (empty and torch.equal(cloud[ball], cloud[expected]))


@pytest.mark.parametrize("most", [1, 100, 10**9])
def test_clouds_in_chunks_give_the_same(monkeypatch, most):
    points = _cloud(0, 7, 24, False)
    expected = nearest_points(points, points[:, :5], 4), ball_query(points, points[:, :5], 4, 1.0)
    monkeypatch.setitem(MOST_DISTANCES, "cpu", most)
    assert torch.equal(nearest_points(points, points[:, :5], 4), expected[0])
    assert torch.equal(ball_query(points, points[:, :5], 4, 1.0), expected[1])


def test_take_reads_each_clouds_own_table_and_sends_gradients_back():
    values = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    indices = torch.tensor([[[0, 4], [4, 4]], [[1, 1], [2, 3]]])
    taken = take(values, indices)
    expected = torch.stack([values[cloud][indices[cloud]] for cloud in range(2)])
    assert torch.equal(taken, expected)
    weights = torch.randn(taken.shape, generator=torch.Generator().manual_seed(1))
    mine = torch.autograd.grad((taken * weights).sum(), values)[0]
    theirs = torch.autograd.grad((expected * weights).sum(), values)[0]
    assert torch.allclose(mine, theirs)


def test_more_samples_than_points_is_refused():
    with pytest.raises(ValueError, match="9 samples"):
        farthest_points(torch.zeros(1, 8, 3), 9)
