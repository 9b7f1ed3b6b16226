import pytest
import torch

from cross4d_train.evaluation.linear import HeadSettings, predictions
from cross4d_train.evaluation.probe import ProbeSettings
from cross4d_train.evaluation.robustness import Robustness
from tests.cross4d_train.evaluation.by_hand import Coordinates, Video, across, clips_of, finish, write_videos


def test_three_videos_by_hand(tmp_path):
    """A body is of action 0 or 1 by the sign of the mean of x over the frames that are left, of four: 0, 2 and 3 of 75 %, 1 and 3 of
    50 %, 2 of 25 %. Points of a frame have the same x, so fewer of them change nothing, and noise of 0.05 m is far from 1 m.

    a: means -1, -1, -1, 1; b: 1, 5/3, -1, 1; c: 1, -1/3, 3, 1.
    """
    videos = [
        Video(id="left", side="train", action=0, frames=across(-1, -1, -1, -1, num_points=8)),
        Video(id="right", side="train", action=1, frames=across(1, 1, 1, 1, num_points=8)),
        Video(id="a", side="test", action=0, frames=across(-3, -1, 1, -1, num_points=8)),
        Video(id="b", side="test", action=1, frames=across(5, -1, 1, -1, num_points=8)),
        Video(id="unlabelled", side="test", action=-1, frames=across(1, 1, 1, 1, num_points=8)),
        Video(id="c", side="test", action=1, frames=across(-3, 5, 1, 1, num_points=8)),
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    head = HeadSettings(num_epochs=200, learning_rate=0.1)
    result = finish(Robustness, path, ProbeSettings(clips=clips_of(4, 8), num_windows=1, head=head), Coordinates((0,)))
    wrong = {
        (score.corruption.kind, score.corruption.level): [
            item.id for item in score.standardised_predictions if item.action != item.predicted
        ]
        for score in result.scores
    }
    frames = {("frames", 1.0): [], ("frames", 0.75): ["c"], ("frames", 0.5): ["b"], ("frames", 0.25): ["a"]}
    points = {("points", share): [] for share in (1.0, 0.75, 0.5, 0.25)}
    jitter = {("jitter", metres): [] for metres in (0.0, 0.01, 0.02, 0.05)}
    assert wrong == frames | points | jitter
    assert [score.standardised for score in result.scores] == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3] + [1] * 8)
    assert (result.num_train_videos, result.num_test_videos) == (2, 3)


def test_both_heads_have_their_own_figures(tmp_path, monkeypatch):
    """A head without standardisation that says 0 of everything, and one with it that says 1: of three test videos two are of action 1."""

    class Constant:
        def __init__(self, standardise):
            self.guess = int(standardise)

        def predict(self, videos):
            return predictions(videos, torch.full((len(videos.ids),), self.guess))

    monkeypatch.setattr("cross4d_train.evaluation.robustness.train_head", lambda train, settings, *, standardise: Constant(standardise))
    videos = [
        Video(id=f"{side}{number}", side=side, action=action, frames=across(0, num_points=8))
        for side, actions in (("train", (0, 1)), ("test", (0, 1, 1)))
        for number, action in enumerate(actions)
    ]
    path = write_videos(tmp_path / "store.zarr", videos)
    result = finish(Robustness, path, ProbeSettings(clips=clips_of(1, 8), num_windows=1))
    assert [(score.raw, score.standardised) for score in result.scores] == [(pytest.approx(1 / 3), pytest.approx(2 / 3))] * 12
    assert {item.predicted for score in result.scores for item in score.raw_predictions} == {0}
    assert [line.split()[-2:] for line in result.describe().splitlines()[-12:]] == [["0.333", "0.667"]] * 12
