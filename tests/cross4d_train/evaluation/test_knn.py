import pytest
import torch
from torch.nn import functional

from cross4d_train.evaluation.knn import NearestNeighbours, NeighbourSettings, vote
from tests.cross4d_train.evaluation.by_hand import Video, clips_of, finish, write_videos


def test_votes_against_the_slow_reference():
    generator = torch.Generator().manual_seed(0)
    known, actions = torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator) * 2
    asked = torch.randn(15, 2, 6, generator=generator)
    found = vote(known, actions, asked, 7)
    for video, guess in zip(asked, found.tolist(), strict=True):
        votes = dict.fromkeys(sorted(set(actions.tolist())), 0.0)
        for window in video:
            cosines = functional.cosine_similarity(window.unsqueeze(0), known)
            for index in cosines.argsort(descending=True)[:7].tolist():
                votes[int(actions[index])] += float(1 + cosines[index]) / 2
        assert guess == max(votes, key=lambda action: votes[action])


def test_more_neighbours_than_clips_are_all_of_them():
    known, actions = torch.eye(2), torch.tensor([4, 9])
    assert vote(known, actions, torch.tensor([[[0.1, 1.0]]]), 50).tolist() == [9]


def unit(cosines):
    """Vectors of length one with these cosines to (1, 0)."""
    return torch.tensor([[cosine, (1 - cosine**2) ** 0.5] for cosine in cosines])


def flat(x, y):
    """A video of one frame and one point."""
    return [[(x, y, 0.0)]]


def test_three_videos_by_hand(tmp_path):
    """Training: (2, 1) of action 0 and (4, 3) of action 1, so mean (3, 2) and deviation (1, 1); test: (5, 2.6), (4.4, 2.4), (3.8, 2.8).

    As they are, slopes count: 0.5 and 0.75 against 0.52, 0.545 and 0.74, so 0, 0 and 1. Standardised they are (-1, -1) and (1, 1)
    against (2, 0.6), (1.4, 0.4) and (0.8, 0.8), so 1 every time. Standardised by the test videos, (4.4, 2.4) would be straight below
    the middle, and so of action 0.
    """
    videos = [
        Video(id="a", side="train", action=0, frames=flat(2, 1)),
        Video(id="b", side="train", action=1, frames=flat(4, 3)),
        Video(id="c", side="test", action=1, frames=flat(5, 2.6)),
        Video(id="d", side="test", action=1, frames=flat(4.4, 2.4)),
        Video(id="e", side="test", action=1, frames=flat(3.8, 2.8)),
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(NearestNeighbours, path, NeighbourSettings(clips=clips_of(1, 1), num_windows=1, num_neighbours=1))
    assert [item.predicted for item in result.raw.predictions] == [0, 0, 1]
    assert [item.predicted for item in result.standardised.predictions] == [1, 1, 1]
    assert (result.raw.video_accuracy, result.standardised.video_accuracy) == (pytest.approx(1 / 3), 1)
    assert (result.num_train_videos, result.num_test_videos) == (2, 3)


def test_test_videos_are_moved_by_the_mean_of_training_too(tmp_path):
    """Training as above; (2.2, 1.5) has slope 0.68, so is of action 1 as it is; standardised it is (-0.8, -0.5), so of action 0."""
    videos = [
        Video(id="a", side="train", action=0, frames=flat(2, 1)),
        Video(id="b", side="train", action=1, frames=flat(4, 3)),
        Video(id="c", side="test", action=0, frames=flat(2.2, 1.5)),
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(NearestNeighbours, path, NeighbourSettings(clips=clips_of(1, 1), num_windows=1, num_neighbours=1))
    assert (result.raw.video_accuracy, result.standardised.video_accuracy) == (0, 1)


def test_votes_by_hand():
    """A vote is (1 + cosine) / 2. Cosines 0.5 and -0.6 of action 9, 0.3 of action 4, so votes 0.75, 0.2 and 0.65.

    The nearest is of action 9; the nearest two are of 9 and 4, 0.75 against 0.65; all three give 9 the sum 0.95, although its
    cosines alone sum to less than 0.3.
    """
    known, actions = unit([0.5, -0.6, 0.3]), torch.tensor([9, 9, 4])
    assert [vote(known, actions, torch.tensor([[[1.0, 0.0]]]), count).tolist() for count in (1, 2, 3)] == [[9], [9], [9]]


def test_votes_of_all_windows_count_by_hand():
    """Action 4 at cosine 0.6 to the first window and 0.8 to the second, 9 at 0 and 1, and at -0.8 and 0.6.

    Two neighbours a window: 4 has 0.8 + 0.9 = 1.7, 9 has 0.5 + 1.0 = 1.5. Three: 9 has 0.1 + 0.8 more.
    """
    known, actions = torch.tensor([[0.6, 0.8], [0.0, 1.0], [-0.8, 0.6]]), torch.tensor([4, 9, 9])
    asked = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert [vote(known, actions, asked, count).tolist() for count in (2, 3)] == [[4], [9]]
    assert vote(known, actions, asked[:, 1:], 1).tolist() == [9]


def test_windows_of_a_training_video_have_its_action(tmp_path):
    """Two windows each: frames 0 and 1 of a video. The test video lies between them, nearest to the first window of `b`."""
    videos = [
        Video(id="a", side="train", action=0, frames=[[(1.0, 0.0, 0.0)], [(1.0, 0.2, 0.0)]]),
        Video(id="b", side="train", action=1, frames=[[(0.6, 0.8, 0.0)], [(0.0, 1.0, 0.0)]]),
        Video(id="c", side="test", action=1, frames=[[(0.7, 0.7, 0.0)], [(0.7, 0.7, 0.0)]]),
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(NearestNeighbours, path, NeighbourSettings(clips=clips_of(1, 1), num_windows=2, num_neighbours=1))
    assert [item.predicted for item in result.raw.predictions] == [1]
