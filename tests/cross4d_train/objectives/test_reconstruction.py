import pytest
import torch

from cross4d_train.objectives.masking import hide_tubes
from cross4d_train.objectives.reconstruction import chamfer_distance, count_octants, tube_contents


def test_chamfer_distance_matches_the_reference():
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 3, 5, 3, generator=generator), torch.randn(2, 3, 7, 3, generator=generator)
    found = chamfer_distance(one, other)
    for item in range(2):
        for frame in range(3):
            there = [min(float((p - q).square().sum()) for q in other[item, frame]) for p in one[item, frame]]
            back = [min(float((p - q).square().sum()) for p in one[item, frame]) for q in other[item, frame]]
            assert found[item, frame].item() == pytest.approx(sum(there) / 5 + sum(back) / 7, abs=1e-4)


def test_equal_clouds_have_no_distance_and_a_finite_gradient():
    cloud = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    distance = chamfer_distance(cloud, cloud.detach().flip(1))
    distance.sum().backward()
    assert (distance < 1e-5).all()
    assert cloud.grad.isfinite().all()


def test_octants_are_counted_point_by_point():
    offsets = torch.tensor([[[1.0, 1, 1], [-1, 1, 1], [1, -1, -1], [0, 0, 0], [1, 1, 1]]])
    inside = torch.tensor([[True, True, True, True, False]])
    assert count_octants(offsets, inside).tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize(("num_frames", "num_points"), [(7, 100), (1, 100), (2, 20)])
def test_contents_match_the_reference(num_frames, num_points):
    """Tube by tube and frame by frame."""
    points = torch.randn(2, num_frames, num_points, 3, generator=torch.Generator().manual_seed(0))
    masking = hide_tubes(points, share=0.5, generator=torch.Generator().manual_seed(1))
    contents = tube_contents(points, masking)
    kept = min(32, num_points // 2)
    for clip in range(2):
        for tube, (centre, middle) in enumerate(zip(masking.hidden_centres[clip], masking.hidden_frames[clip], strict=True)):
            reach = (points[clip, middle] - centre).norm(dim=-1).sort().values[kept - 1]
            for place in range(3):
                frame = points[clip, min(max(int(middle) + place - 1, 0), num_frames - 1)]
                offsets = (frame - centre)[(frame - centre).norm(dim=-1).argsort()]
                assert torch.allclose(contents.points[clip, tube, place], offsets[:kept], atol=1e-5)
                counts = [0] * 8
                for offset in offsets[:64]:
                    if offset.norm() <= reach + 1e-6:
                        counts[int(offset[0] > 0) + 2 * int(offset[1] > 0) + 4 * int(offset[2] > 0)] += 1
                assert contents.counts[clip, tube, place].tolist() == counts
