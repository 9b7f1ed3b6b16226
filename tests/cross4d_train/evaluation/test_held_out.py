import numpy as np
import pytest
import torch

from cross4d_cache.store import NOT_VISIBLE, open_cache
from cross4d_train.clips import ClipSettings, even_requests, select_sequences
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.held_out import held_out_loss
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from tests.cross4d_train.conftest import CHANNELS, TARGETS, make_infos, write_store
from tests.cross4d_train.evaluation.by_hand import Coordinates, Video, across, clips_of, write_videos

CLIPS = ClipSettings(num_frames=3, num_points=48, stride=1)


def make_student(store, conditioning):
    """An untrained student whose conditioning is fitted."""
    settings = RunSettings(
        encoder=EncoderSettings(size="tiny"),
        clips=CLIPS,
        training=TrainingSettings(num_epochs=1, side="train", protocol="cross-subject"),
    ).changed({"objective.conditioning": conditioning})
    training = Pretraining(store, settings, make_fabric("cpu"))
    return training.encoder, training.objective


def sides_of(store):
    sequences = open_cache(store).sequences
    return {side: select_sequences(sequences, ("cross-subject",), protocol=None, side=side) for side in ("train", "test")}


def losses(store, encoder, objective, **options):
    return held_out_loss(encoder, objective, ClipDataset(store, CLIPS), **sides_of(store), seed=0, **options)


def unit(vector):
    return vector / vector.norm().clamp(min=1e-12)


def condition(conditioning, row, patch):
    return conditioning(row.unsqueeze(0), torch.tensor([int(patch)]))[0]


def mean_directions(store, conditioning):
    cache = open_cache(store)
    table = {}
    for index in sides_of(store)["train"]:
        clip = cache.read_clip(index, np.arange(cache.sequences[index].num_frames))
        for patch, row in zip(clip.patches.tolist(), torch.from_numpy(clip.features), strict=True):
            table[patch] = table.get(patch, 0) + unit(condition(conditioning, row, patch))
    return table


def reference_losses(store, encoder, objective):
    """Token by token."""
    conditioning, dataset, found = objective.conditioning, ClipDataset(store, CLIPS), []
    table = mean_directions(store, conditioning)
    constant = sum(table.values())
    for request in even_requests(CLIPS, dataset.cache.sequences, sides_of(store)["test"], num_windows=1, seed=0):
        clip = dataset[request]
        with torch.no_grad():
            tokens = encoder(torch.from_numpy(clip.points)[None])
            predictions = objective.head(tokens.features[0])
        for frame, centroid, prediction in zip(tokens.frame[0].tolist(), tokens.centroids[0], predictions, strict=True):
            point = int((torch.from_numpy(clip.points[frame]) - centroid).norm(dim=-1).argmin())
            rows = [row for row in clip.rows[frame, point].tolist() if row >= 0]
            if rows:
                features = torch.from_numpy(clip.features)
                target = sum(condition(conditioning, features[row], clip.patches[row]) for row in rows) / len(rows)
                by_position = sum(table.get(int(clip.patches[row]), torch.zeros_like(constant)) for row in rows)
                found.append([1 - float(unit(guess) @ unit(target)) for guess in (prediction, constant, by_position)])
    return np.mean(found, axis=0)


@pytest.mark.parametrize("conditioning", ["none", "center", "whiten-patch:4"])
def test_losses_are_those_of_the_reference(small_store, conditioning):
    encoder, objective = make_student(small_store, conditioning)
    found = losses(small_store, encoder, objective, batch_size=2)
    expected = reference_losses(small_store, encoder, objective)
    assert [found.student, found.constant, found.position] == pytest.approx(expected.tolist(), abs=2e-4)


def test_a_student_that_knows_the_constant_alone_has_its_loss(small_store):
    encoder, objective = make_student(small_store, "center")
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.copy_(3 * sum(mean_directions(small_store, objective.conditioning).values()))
    found = losses(small_store, encoder, objective)
    assert found.student == pytest.approx(found.constant, abs=1e-5)


@pytest.mark.parametrize("conditioning", ["none", "center", "whiten:4"])
def test_targets_that_follow_the_position_leave_it_no_loss(store, conditioning):
    """In this store a patch has the same feature in every frame."""
    found = losses(store, *make_student(store, conditioning))
    assert found.position == pytest.approx(0, abs=1e-4)
    assert found.constant > 0.05
    assert found.student > 0.05


def test_test_videos_of_which_nothing_is_seen_give_a_number(store, tmp_path):
    encoder, objective = make_student(store, "center")
    bare = write_store(tmp_path / "bare.zarr", make_infos(), targets=False)
    found = losses(bare, encoder, objective)
    assert all(np.isfinite([found.student, found.constant, found.position]))


HIDDEN = (NOT_VISIBLE, NOT_VISIBLE)


def test_three_videos_by_hand(tmp_path):
    """The table of every frame: row 0 is 2 e0 of patch 1, row 1 is 3 e1 of patch 2, row 2 is 5 e0 of patch 6, in the second view.

    Training knows two frames, so the sum of directions is 4 e0 + 2 e1, of cosine 2 / sqrt(5) with e0 and 1 / sqrt(5) with e1. Test:
    one point sees row 0, one row 1, one rows 1 and 2, with mean (5 e0 + 3 e1) / 2, one nothing. Their cosines with the constant are
    2 / sqrt(5), 1 / sqrt(5) and (10 + 3) / sqrt(5 * 34). The table knows e0, e1, and for the third 2 e0 + 2 e1, of cosine 8 / sqrt(2 * 34).
    The student says e1: 0, 1 and 3 / sqrt(34).
    """
    features = np.zeros((3, CHANNELS))
    features[[0, 1, 2], [0, 1, 0]] = (2, 3, 5)
    seen = [[(0, NOT_VISIBLE), (1, NOT_VISIBLE), (1, 2), HIDDEN]]
    videos = [
        Video(id=f"{side}{number}", side=side, action=0, frames=across(0.5, num_points=4), slots=seen)
        for side, count in (("train", 2), ("test", 1))
        for number in range(count)
    ]
    path = write_videos(tmp_path / "store.zarr", videos, features, patches=(1, 2, 6))
    objective = build_objective(ObjectiveSettings(name="dense", conditioning="none"), Coordinates(), TARGETS)
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.head.bias.copy_(torch.eye(CHANNELS)[1])
    dataset = ClipDataset(path, clips_of(1, 4))
    found = held_out_loss(Coordinates(), objective, dataset, train=(0, 1), test=(2,), seed=0)
    assert found.student == pytest.approx(1 - (0 + 1 + 3 / 34**0.5) / 3, abs=1e-5)
    assert found.constant == pytest.approx(1 - (2 / 5**0.5 + 1 / 5**0.5 + 13 / 170**0.5) / 3, abs=1e-5)
    assert found.position == pytest.approx(1 - (1 + 1 + 8 / 68**0.5) / 3, abs=1e-5)
