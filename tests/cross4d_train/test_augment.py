"""Augmentation of clips."""

import math

import pytest
import torch

from cross4d_train.augment import Augmentation, augment


def make_points():
    return torch.randn(4, 3, 20, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([1.0, 2.0, 3.0])


def augmented(points, seed=5, jitter=0.005):
    augmentation = Augmentation(scale=0.1, yaw_degrees=15.0, jitter_metres=jitter)
    return augment(points, augmentation, torch.Generator().manual_seed(seed))


def test_augmentation_is_seeded():
    points = make_points()
    moved = augmented(points)
    assert moved.shape == points.shape
    assert torch.equal(moved, augmented(points))
    assert not torch.allclose(moved, augmented(points, seed=6), atol=0.01)


def test_augmentation_without_jitter_turns_and_scales_each_clip_about_its_centre():
    points = make_points()
    moved = augmented(points, jitter=0.0)
    assert torch.allclose(moved.mean(dim=(1, 2)), points.mean(dim=(1, 2)), atol=1e-4)
    before, after = (torch.cdist(cloud, cloud) for cloud in (points.flatten(1, 2), moved.flatten(1, 2)))
    apart = before[0] > 0.1
    scales = torch.stack([(new[apart] / old[apart]) for old, new in zip(before, after, strict=True)])
    assert torch.allclose(scales, scales[:, :1], atol=1e-3)
    assert ((scales - 1).abs() <= 0.1 + 1e-3).all()
    assert scales[:, 0].std() > 0.01
    heights, new_heights = ((cloud - cloud.mean(dim=(1, 2), keepdim=True))[..., 1] for cloud in (points, moved))
    assert torch.allclose(new_heights, heights * scales[:, 0].view(-1, 1, 1), atol=1e-3)
    flat, turned = ((cloud - cloud.mean(dim=(1, 2), keepdim=True))[:, 0, 0, ::2] for cloud in (points, moved))
    cosines = torch.nn.functional.cosine_similarity(flat, turned)
    assert (cosines > 0.965).all()  # 15 degrees
    assert cosines.min() < 0.9999


def test_jitter_moves_every_point_a_little():
    points = make_points()
    moved = augmented(points)
    deviation = moved - augmented(points, jitter=0.0)
    assert deviation.std().item() == pytest.approx(0.005, rel=0.15)


def test_a_tilt_turns_each_clip_about_a_horizontal_axis():
    points = make_points()
    tilts = Augmentation(tilt_degrees=60.0)
    moved = torch.cat([augment(points, tilts, torch.Generator().manual_seed(seed)) for seed in range(20)])
    before = (points - points.mean(dim=(1, 2), keepdim=True)).repeat(20, 1, 1, 1)
    after = moved - moved.mean(dim=(1, 2), keepdim=True)
    # The turn that best takes one to the other (Kabsch); exact, as nothing else happened.
    left, _, right = torch.linalg.svd(torch.einsum("cfpi,cfpj->cij", after.double(), before.double()))
    turn = left @ right
    assert torch.allclose(torch.einsum("cij,cfpj->cfpi", turn.float(), before), after, atol=1e-4)
    assert torch.allclose(torch.linalg.det(turn), torch.ones(len(turn), dtype=torch.float64))
    tilt = torch.rad2deg(turn[:, 1, 1].clamp(-1, 1).acos())  # between the vertical before and after
    assert 50 < tilt.max() <= 60.01
    angle = torch.rad2deg(((turn.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2).clamp(-1, 1).acos())
    assert torch.allclose(angle, tilt, atol=0.01)  # all of the turn is tilt: its axis is horizontal
    ways = turn[:, [0, 2], 1]
    assert (ways.amax(dim=0) > 0.3).all()
    assert (ways.amin(dim=0) < -0.3).all()


def test_a_clip_turns_about_the_vertical_before_it_tilts():
    points, seed = make_points(), torch.Generator().manual_seed
    turned = augment(points, Augmentation(yaw_degrees=180.0), seed(5))
    assert (turned - points).norm(dim=-1).mean() > 0.5
    assert torch.allclose(augment(points, Augmentation(yaw_degrees=180.0, tilt_degrees=1e-6), seed(5)), turned, atol=1e-4)


def test_what_is_added_leaves_earlier_draws_as_they_were():
    """Clips of a seed, whose first numbers are scale and heading, then jitter: runs of release 0.1 resume with them."""
    points, generator = make_points(), torch.Generator().manual_seed(5)
    scale, angle = (2 * torch.rand(2, 4, generator=generator) - 1) * torch.tensor([[0.1], [math.radians(15)]])
    noise = torch.randn(points.shape, generator=generator)
    for clip in range(4):
        cosine, sine = angle[clip].cos(), angle[clip].sin()
        centre = points[clip].mean(dim=(0, 1))
        x, y, z = ((points[clip] - centre) * (1 + scale[clip])).unbind(dim=-1)
        expected = torch.stack([cosine * x + sine * z, y, cosine * z - sine * x], dim=-1) + centre + 0.005 * noise[clip]
        assert torch.allclose(augmented(points)[clip], expected, atol=1e-5)
