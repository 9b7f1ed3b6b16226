import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from cross4d_cache.errors import CheckpointError, SettingsError
from cross4d_cache.store import open_cache
from cross4d_train import Student, load, pca_colours
from cross4d_train.checkpoint import CHECKPOINT_FILE, load_checkpoint
from cross4d_train.features import encoder_features, student_features, teacher_features
from cross4d_train.interpolation import spread
from cross4d_train.loop import Pretraining, make_fabric
from cross4d_train.recording import draw_points
from cross4d_train.settings import RunSettings

FRAMES, POINTS = 4, 48
ENCODERS = ("point4d", "p4transformer", "pstnet")


def train(store, **options):
    """The checkpoint of a run of one epoch."""
    options = {
        "encoder.size": "tiny",
        "clips.num_frames": FRAMES,
        "clips.num_points": POINTS,
        "training.num_epochs": 1,
        "training.batch_size": 8,
        **options,
    }
    training = Pretraining(store, RunSettings.for_cache(open_cache(store).manifest).changed(options), make_fabric("cpu"))
    assert len(list(training.steps())) > 0
    return training.checkpoint()


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("features")
    train(store).save(folder / CHECKPOINT_FILE)
    return folder


@pytest.fixture(scope="module")
def student(run):
    return load(run, device="cpu")


def body(num_frames, num_points, seed=0):
    """A moving cloud, about as large as a body."""
    points = np.random.default_rng(seed).uniform([-0.3, -0.9, 2.7], [0.3, 0.9, 3.3], size=(num_frames, num_points, 3))
    points[:, :, 0] += 0.05 * np.arange(num_frames)[:, None]
    return points.astype(np.float32)


def test_a_run_and_its_file_give_the_same_student(run, student):
    other = load(run / CHECKPOINT_FILE, device="cpu")
    assert isinstance(other, Student)
    assert repr(other) == repr(student)
    assert repr(student).startswith(
        "<Student point4d tiny, 32 channels: dense, step 1 of 1 on fake, teacher fake (trained); clips of 4 x 48 "
    )
    np.testing.assert_array_equal(other.features(body(3, 60)), student.features(body(3, 60)))


def test_features_of_a_training_clip_are_what_the_encoder_says_of_it(student):
    """As many frames and points as in training, so nothing is left out."""
    points = body(FRAMES, POINTS)
    clip = torch.from_numpy(np.stack([draw_points(frame, POINTS) for frame in points]))[None]
    with torch.inference_mode():
        tokens = student.encoder(clip)
        expected = spread(tokens.features, tokens, torch.from_numpy(points)[None])[0]
    found = student.features(points)
    assert found.shape == (FRAMES, POINTS, student.channels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    own = student.tokens(points)
    np.testing.assert_array_equal(own.features, tokens.features[0].numpy())
    np.testing.assert_array_equal(own.frames, np.repeat(np.arange(FRAMES), 4))
    assert all((points[frame] == centroid).all(axis=1).any() for frame, centroid in zip(own.frames, own.centroids, strict=True))
    np.testing.assert_allclose(student.embedding(points), tokens.features[0].mean(dim=0).numpy(), atol=1e-6)


def test_what_comes_back_is_of_the_kind_that_was_given(student):
    points = body(3, 60)
    expected = student.features(points)
    tensor = student.features(torch.from_numpy(points))
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    for frames in (list(points), [torch.from_numpy(frame) for frame in points]):
        found = student.features(frames)
        assert isinstance(found, list)
        assert type(found[0]) is type(frames[0])
        np.testing.assert_array_equal(np.stack([np.asarray(frame) for frame in found]), expected)
    np.testing.assert_array_equal(student.features(points.astype(np.float64)), expected)


def test_frames_may_have_any_number_of_points(student):
    """The encoder sees 48 points of each frame, whether there is one or are thousands."""
    frames = [body(1, count, seed)[0] for seed, count in enumerate((1, 7, 48, 5000))]
    found = student.features(frames)
    assert [frame.shape for frame in found] == [(1, 32), (7, 32), (48, 32), (5000, 32)]
    assert all(np.isfinite(frame).all() for frame in found)


def test_a_second_time_gives_the_same_and_points_that_hardly_move_hardly_change(student):
    """A grid of 0.03 mm, as that of a store."""
    points = body(3, 100)
    found = student.features(points)
    np.testing.assert_array_equal(student.features(points), found)
    np.testing.assert_allclose(student.features(np.round(points / 3e-5) * np.float32(3e-5)), found, atol=5e-3)
    np.testing.assert_array_equal(student.features(points[:, ::-1]), student.features(points[:, ::-1].copy()))


def test_where_the_origin_lies_does_not_matter(student):
    points = body(3, 100)
    np.testing.assert_allclose(student.features(points + np.array([8, 0, -4], np.float32)), student.features(points), atol=1e-3)


def test_many_points_get_their_features_in_parts(student, monkeypatch):
    points = body(2, 100)
    whole = student.features(points)
    monkeypatch.setattr("cross4d_train.features.POINTS_AT_A_TIME", 33)
    np.testing.assert_allclose(student.features(points), whole, atol=1e-5)


def test_long_recordings_are_seen_window_by_window(student):
    """Ten frames in windows of four: 0 to 3, 4 to 7, and 6 to 9, of which 8 and 9 count."""
    points = body(10, 60)
    found, tokens = student.features(points), student.tokens(points)
    np.testing.assert_array_equal(found[:4], student.features(points[:4]))
    np.testing.assert_array_equal(found[4:8], student.features(points[4:8]))
    np.testing.assert_array_equal(found[8:], student.features(points[6:])[2:])
    np.testing.assert_array_equal(tokens.frames, np.repeat(np.arange(10), 4))
    np.testing.assert_array_equal(tokens.features[-8:], student.tokens(points[6:]).features[-8:])


def test_a_stride_takes_every_second_frame(student):
    points = body(8, 60)
    found = student.features(points, stride=2)
    np.testing.assert_array_equal(found[::2], student.features(points[::2]))
    np.testing.assert_array_equal(found[1::2], student.features(points[1::2]))
    with pytest.raises(SettingsError, match="stride = 0"):
        student.features(points, stride=0)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_takes_clips_of_any_length(name, store, tmp_path):
    """The last frame of a short recording repeats, as in training."""
    train(store, **{"encoder.name": name}).save(tmp_path / "a.safetensors")
    student = load(tmp_path / "a.safetensors", device="cpu")
    for length in (1, 2, 9):
        points = body(length, 60)
        assert np.isfinite(student.features(points)).all()
        tokens = student.tokens(points)
        assert (np.diff(tokens.frames) >= 0).all()
        assert set(tokens.frames) <= set(range(length))
    one = body(1, 60)
    np.testing.assert_array_equal(student.features(one)[0], student.features(np.repeat(one, FRAMES, axis=0))[0])
    np.testing.assert_array_equal(student.embedding(one), student.embedding(np.repeat(one, FRAMES, axis=0)))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.zeros((5, 3), np.float32), r"points of shape \(5, 3\)"),
        (torch.zeros(2, 5, 4), r"has the shape \(5, 4\)"),
        (np.zeros((0, 5, 3), np.float32), "without frames"),
        (np.full((1, 5, 3), np.nan, np.float32), "5 points that are NaN"),
        (1000 * body(2, 60), "multiply millimetres by 0.001"),
    ],
)
def test_what_is_no_recording_is_refused(student, points, message):
    for ask in (student.features, student.tokens, student.predict, student.embedding):
        with pytest.raises(SettingsError) as refused:
            ask(points)
        assert re.search(message, str(refused.value))


def test_predictions_are_what_the_head_says_of_features_put_back_into_the_space_of_the_store(student):
    points = body(5, 60)
    found, head = student.predict(points), student.head
    assert found.shape == (5, 60, 8)
    with torch.inference_mode():
        conditioned = head.head(torch.from_numpy(student.features(points)))
        conditioned = conditioned / conditioned.square().mean().sqrt()
    expected = conditioned @ torch.linalg.pinv(head.conditioning.matrix) + head.conditioning.means[0]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    assert [frame.shape for frame in student.predict(list(points))] == [(60, 8)] * 5


@pytest.mark.parametrize("conditioning", ["none", "center", "whiten:4", "center-patch", "whiten-patch:4"])
def test_every_conditioning_is_put_back(conditioning, store, tmp_path):
    train(store, **{"objective.conditioning": conditioning}).save(tmp_path / "a.safetensors")
    predictions = load(tmp_path / "a.safetensors", device="cpu").predict(body(3, 60))
    assert predictions.shape == (3, 60, 8)
    assert np.isfinite(predictions).all()


@pytest.mark.parametrize("objective", ["global", "mastpre"])
def test_objectives_that_predict_nothing_of_points_say_so(objective, store, tmp_path):
    train(store, **{"objective.name": objective}).save(tmp_path / "a.safetensors")
    student = load(tmp_path / "a.safetensors", device="cpu")
    assert student.features(body(2, 60)).shape == (2, 60, 32)
    with pytest.raises(SettingsError, match=f"objective {objective}, which predicts no features of points"):
        student.predict(body(2, 60))


def test_a_file_without_its_head_has_features_and_no_predictions(run, tmp_path):
    checkpoint = load_checkpoint(run / CHECKPOINT_FILE)
    encoder = {name: value for name, value in checkpoint.tensors.items() if name.startswith("encoder.")}
    replace(checkpoint, tensors=encoder).save(tmp_path / "a.safetensors")
    student = load(tmp_path / "a.safetensors", device="cpu")
    assert student.features(body(2, 60)).shape == (2, 60, 32)
    with pytest.raises(CheckpointError, match="has no head for predictions"):
        student.predict(body(2, 60))
    bomb = {"objective.conditioning.means": torch.zeros(1, 1_000_000), **encoder}
    replace(checkpoint, tensors=bomb).save(tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="does not fit the objective"):
        load(tmp_path / "b.safetensors", device="cpu").predict(body(2, 60))


def test_what_is_no_run_is_refused(tmp_path):
    for place, said in ((tmp_path, "has no student in it"), (tmp_path / "a.safetensors", r"there is no student at .*/a\.safetensors: ")):
        with pytest.raises(CheckpointError, match=said):
            load(place)


def test_colours_are_of_the_kind_of_the_features_and_equal_where_these_are(student):
    features = student.features(body(3, 60))
    colours = pca_colours(features)
    assert colours.shape == (3, 60, 3)
    assert (colours.min(), colours.max()) == (0, 1)
    listed = pca_colours([torch.from_numpy(frame) for frame in features])
    assert all(isinstance(frame, torch.Tensor) for frame in listed)
    np.testing.assert_array_equal(torch.stack(listed).numpy(), colours)
    doubled = pca_colours(np.concatenate([features, features]))
    np.testing.assert_array_equal(doubled[:3], doubled[3:])


def test_clips_of_a_store_from_student_and_teacher(store, run, student):
    """A point's target is the mean over the views that see it; the student's own features are those of all stored points at once."""
    clip = open_cache(store).read_clip(0, np.arange(FRAMES))
    targets = teacher_features(clip)
    for point in range(0, len(clip.points), 40):
        rows = clip.rows[point][clip.rows[point] >= 0]
        expected = clip.features[rows].astype(np.float32).mean(axis=0) if len(rows) else np.zeros(8)
        np.testing.assert_allclose(targets[point].numpy(), expected, atol=1e-5)
    [predicted], [own] = student_features([clip], run)
    assert (predicted.shape, own.shape) == ((len(clip.points), 8), (len(clip.points), 32))
    torch.testing.assert_close(own, encoder_features(student.encoder, clip))
