"""What place explains of targets, and what students know of the rest, on cases that can be worked out by hand."""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import open_cache
from cross4d_train.clips import ClipSettings, even_requests
from cross4d_train.conditioning import Conditioning
from cross4d_train.dataset import ClipDataset
from cross4d_train.evaluation.encoder_source import open_source
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.settings import EncoderSettings, RunSettings, TrainingSettings
from pipelines import place
from pipelines.place import (
    OF_PLACE,
    Pairs,
    Told,
    by_patch,
    by_student,
    cubic,
    last_shares,
    linear_map,
    measure,
    pair_frames,
    patch_means,
    share_told,
    shares,
    tell,
)

CLIPS = ClipSettings(num_frames=3, num_points=40, stride=1)


def doubles(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_shares_of_variance_by_hand() -> None:
    targets, constant = doubles((0,), (2,)), torch.ones(1, dtype=torch.float64)
    assert share_told(targets, targets, constant) == 1
    assert share_told(doubles((1,), (1,)), targets, constant) == 0
    assert share_told(doubles((0.5,), (1.5,)), targets, constant) == 0.75
    assert share_told(doubles((2,), (0,)), targets, constant) == -3


def test_means_of_patches_by_hand() -> None:
    means = patch_means(torch.tensor([2, 0, 2]), doubles((1, 0), (5, 0), (3, 6)), 4)
    assert torch.equal(means, doubles((5, 0), (3, 2), (2, 3), (3, 2)))


def test_a_linear_map_by_hand() -> None:
    """Of 2 x + 1 at 0 to 3: the ridge makes of the slope 2 * 5 / 5.005."""
    found = linear_map(doubles((0,), (1,), (2,), (3,)), doubles((1,), (3,), (5,), (7,)), doubles((4,), (1.5,)))
    assert found.flatten().tolist() == pytest.approx([4 + 2.5 * 10 / 5.005, 4])


def test_products_of_coordinates_by_hand() -> None:
    products = [2, 3, 5, 4, 6, 10, 9, 15, 25, 8, 12, 20, 18, 30, 50, 27, 45, 75, 125]
    assert cubic(doubles((2, 3, 5))).tolist() == [products]


def test_means_and_the_constant_are_those_of_the_training_side() -> None:
    """Patches 0 and 1 have means 1 and 11 there, all targets 6; the test side asks for 3 and 11."""

    def side(patches: list[int], *targets: float) -> Told:
        zeros = torch.zeros(len(patches), 3, dtype=torch.float64)
        return Told(features=zeros, coordinates=zeros, patches=torch.tensor(patches), targets=doubles(targets).T)

    found = shares(by_patch, side([0, 0, 1, 1], 0, 2, 10, 12), side([0, 1], 3, 11))
    assert found == {"target": pytest.approx(1 - (4 + 0) / (9 + 25)), "remainder": pytest.approx(0)}


def test_what_place_cannot_tell_is_told_by_the_student_alone() -> None:
    """Targets are the number of the patch, known from x too, plus what only the first feature has."""
    rng = np.random.default_rng(0)

    def side(size: int) -> Told:
        patches = torch.from_numpy(rng.integers(3, size=size))
        features = torch.from_numpy(rng.normal(size=(size, 4)))
        coordinates = torch.stack([patches.double(), *torch.from_numpy(rng.normal(size=(2, size)))], dim=1)
        return Told(features=features, coordinates=coordinates, patches=patches, targets=patches[:, None].double() + features[:, :1])

    train, test = side(4000), side(4000)
    found = {name: shares(predict, train, test) for name, predict in {**OF_PLACE, "student": by_student}.items()}
    place_alone = 1 / (1 + 3 / 2)  # variance 2/3 of the patch beside 1 of the feature
    for name, whole, remainder in (("patch index", place_alone, 0), ("coordinates", place_alone, 0), ("student", 1 - place_alone, 1)):
        assert found[name]["target"] == pytest.approx(whole, abs=0.03)
        assert found[name]["remainder"] == pytest.approx(remainder, abs=0.03)


def test_tokens_come_with_the_patch_and_the_target_of_their_point(small_store: Path) -> None:
    dataset, encoder = ClipDataset(small_store, CLIPS), EncoderSettings(size="tiny").build()
    told = tell(encoder, dataset, [0, 3], Conditioning("none", target_channels=16, num_patches=32))
    expected = []
    for request in even_requests(CLIPS, dataset.cache.sequences, [0, 3], num_windows=2, seed=0):
        clip = dataset[request]
        with torch.no_grad():
            tokens = encoder.eval()(torch.from_numpy(clip.points)[None])
        for token in range(len(tokens.frame[0])):
            frame, centroid = int(tokens.frame[0, token]), tokens.centroids[0, token].numpy()
            point = int(np.linalg.norm(clip.points[frame] - centroid, axis=1).argmin())
            rows = [row for row in clip.rows[frame, point].tolist() if row >= 0]
            if rows:
                expected.append((int(clip.patches[rows[0]]), clip.features[rows[0]], centroid - clip.points.mean(axis=(0, 1))))
    assert 10 < len(expected) == len(told.patches)
    assert told.patches.tolist() == [patch for patch, _, _ in expected]
    np.testing.assert_allclose(told.targets, np.stack([target for _, target, _ in expected]), atol=1e-6)
    np.testing.assert_allclose(told.coordinates, np.stack([coordinates for _, _, coordinates in expected]), atol=1e-4)


def test_pairs_are_the_same_patch_in_frames_in_a_row(small_store: Path) -> None:
    cache = open_cache(small_store)
    found = pair_frames(cache, [0, 3], Conditioning("none", target_channels=16, num_patches=32))
    expected = []
    for index in (0, 3):
        held: list[dict[int, np.ndarray]] = []
        for frame in range(cache.sequences[index].num_frames):
            clip = cache.read_clip(index, np.array([frame]))
            held.append({int(patch): feature for patch, feature in zip(clip.patches, clip.features, strict=True)})
        for before, now in itertools.pairwise(held):
            expected += [(patch, now[patch], before[patch]) for patch in sorted(set(now) & set(before))]
    assert 20 < len(expected) == len(found.patches)
    assert found.patches.tolist() == [patch for patch, _, _ in expected]
    np.testing.assert_allclose(found.now, np.stack([now for _, now, _ in expected]), atol=1e-6)
    np.testing.assert_allclose(found.before, np.stack([before for _, _, before in expected]), atol=1e-6)


def test_what_lasts_by_hand() -> None:
    """Two patches with means 0 and 10; of what is left, half lasts."""
    train = Pairs(now=doubles((1,), (-1,), (11,), (9,)), before=doubles((2,), (-2,), (12,), (8,)), patches=torch.tensor([0, 0, 1, 1]))
    test = Pairs(now=doubles((3,), (9,)), before=doubles((4,), (10,)), patches=torch.tensor([0, 1]))
    found = last_shares(train, test, 2)
    assert found["remainder"] == pytest.approx(1 - (1 + 1) / (9 + 1))  # predicted 2 and 0, for 3 and -1
    scale = (4 * 3 + 6 * 7 + 6 * 7 + 4 * 3) / (9 + 49 + 49 + 9)  # about the mean of all, 5
    assert found["target"] == pytest.approx(1 - ((-2 + scale) ** 2 + (4 - 5 * scale) ** 2) / (4 + 16))


def train(store: Path, place: Path, **changed: Any) -> str:
    training = TrainingSettings(**{"num_epochs": 2, "batch_size": 2, "side": "train", "protocol": "development", **changed})
    run = Pretraining(store, RunSettings(encoder=EncoderSettings(size="tiny"), clips=CLIPS, training=training), make_fabric("cpu"))
    list(run.steps())
    run.checkpoint().save(place)
    return str(place)


def test_students_are_asked_for_the_test_side_of_their_own_protocol(small_store: Path, tmp_path: Path) -> None:
    student = train(small_store, tmp_path / "student.safetensors")
    found = measure(str(small_store), None, [("own", student)], "none")
    dataset = ClipDataset(small_store, CLIPS)
    chosen = [
        [number for number, info in enumerate(dataset.cache.sequences) if info.splits.get("development") == side]
        for side in ("train", "test")
    ]
    assert list(map(len, chosen)) == [3, 2]
    encoder = open_source(student, encoder=None, seed=0, dataset="").encoder
    known, asked = (tell(encoder, dataset, side, Conditioning("none", target_channels=16, num_patches=32)) for side in chosen)
    assert {what: [share] for what, share in shares(by_student, known, asked).items()} == found["own"]
    whole = train(small_store, tmp_path / "whole.safetensors", side="all")
    with pytest.raises(SettingsError, match="trained on side all of protocol development"):
        measure(str(small_store), None, [("own", whole)], "none")


def test_command_measures_students_and_averages_seeds(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    student = train(small_store, tmp_path / "student.safetensors")
    words = ["place", str(small_store), "--students", "untrained=random", "untrained=random", f"own={student}"]
    monkeypatch.setattr(sys, "argv", [*words, "--conditioning", "center", "--json", str(tmp_path / "place.json")])
    place.main()
    found = json.loads((tmp_path / "place.json").read_text())["shares"]
    assert {name: len(row["remainder"]) for name, row in found.items()} == {
        "the frame before": 1,
        "patch index": 1,
        "coordinates": 1,
        "untrained": 2,
        "own": 1,
    }
    assert found["untrained"]["target"][0] != found["untrained"]["target"][1]
    assert found["patch index"]["remainder"][0] <= 0
    assert capsys.readouterr().out.count("±") == 2
    for students, protocol, said in (
        ([("untrained", "random")], None, "no student that was trained"),
        ([("patch index", student)], None, "students called .'patch index'"),
        ([("own", student)], "other", "trained on side train of protocol development"),
    ):
        with pytest.raises(SettingsError, match=said):
            measure(str(small_store), protocol, students, "center")
