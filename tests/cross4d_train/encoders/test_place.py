import pytest
import torch

from cross4d_train.encoders.place import places


@pytest.mark.parametrize(("num_frames", "times"), [(3, [-0.1, 0, 0.1]), (4, [-0.15, -0.05, 0.05, 0.15])])
def test_places_are_about_the_centroid_and_the_middle_of_the_clip(num_frames, times):
    """In every frame points at x = 1 and x = 5, so the centroid is (3, 0, 2); one token a frame at (5, 0, 3), 0.1 m between frames."""
    points = torch.tensor([[[[1.0, 0, 1], [5, 0, 3]]] * num_frames])
    centroids = torch.tensor([[[5.0, 0, 3]] * num_frames])
    found = places(points, centroids, torch.arange(num_frames).unsqueeze(0))
    assert found[0, :, :3].tolist() == [[2, 0, 1]] * num_frames
    assert found[0, :, 3].tolist() == pytest.approx(times)


def test_every_clip_has_its_own_centroid_and_an_encoder_its_own_unit_of_time():
    points = torch.tensor([[[[0.0, 0, 0]], [[2, 0, 0]]], [[[10.0, 0, 0]], [[12, 4, 0]]]])  # centroids (1, 0, 0) and (11, 2, 0)
    found = places(points, points[:, 1], torch.tensor([[1], [1]]).expand(2, 1), metres_per_frame=4.0)
    assert found.tolist() == [[[1, 0, 0, 2]], [[1, 2, 0, 2]]]
