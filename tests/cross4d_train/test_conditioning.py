import itertools
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_cache.errors import SettingsError
from cross4d_cache.store import open_cache
from cross4d_train.conditioning import Conditioning, TargetStatistics, gather_statistics, sample_sequences
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.run import RunFolder
from cross4d_train.token_targets import point_targets
from tests.cross4d_train.conftest import CHANNELS, PATCHES
from tests.cross4d_train.test_loop import curve, make_settings, make_training

NAMES = ("none", "center", "whiten", "center-patch", "whiten-patch")


def make_targets(seed, channels, num_patches):
    """Float16 targets with one strong common direction, an offset for each patch, and channels of unequal strength."""
    rng = np.random.default_rng(seed)
    count = 40 * num_patches + 10 * channels
    patches = np.concatenate([np.arange(num_patches), rng.integers(num_patches, size=count - num_patches)])
    rotation, _ = np.linalg.qr(rng.normal(size=(channels, channels)))
    features = rng.normal(size=(count, channels)) * 1.6 ** -np.arange(channels) @ rotation
    features += 4 + rng.normal(size=(num_patches, channels))[patches]
    return features.astype(np.float16), patches


def statistics_of(features, patches, num_patches):
    """All at once, in numpy."""
    rows = features.astype(np.float64)
    counts = np.array([(patches == patch).sum() for patch in range(num_patches)], dtype=np.float64)
    sums = np.stack([rows[patches == patch].sum(axis=0) for patch in range(num_patches)])
    return TargetStatistics(counts=torch.from_numpy(counts), sums=torch.from_numpy(sums), products=torch.from_numpy(rows.T @ rows))


def reference(name, features, patches):
    """The meaning of every conditioning, fitted on the targets it is applied to."""
    kind, _, components = name.partition(":")
    rows = features.astype(np.float64)
    if kind == "none":
        return rows
    if kind.endswith("-patch"):
        centred = np.stack([row - rows[patches == patch].mean(axis=0) for row, patch in zip(rows, patches, strict=True)])
    else:
        centred = rows - rows.mean(axis=0)
    if kind.startswith("center"):
        return centred
    values, vectors = np.linalg.eigh(sum(np.outer(row, row) for row in centred) / len(centred))
    columns = []
    for strongest in np.argsort(-values)[: int(components)]:
        vector = vectors[:, strongest]
        columns.append(centred @ vector * np.sign(vector[np.abs(vector).argmax()]) / np.sqrt(values[strongest]))
    return np.stack(columns, axis=1)


def fitted(name, features, patches, num_patches):
    module = Conditioning(name, target_channels=features.shape[1], num_patches=num_patches)
    module.fit(statistics_of(features, patches, num_patches))
    return module


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(2, 8), st.integers(1, 5), st.sampled_from(NAMES), st.data())
def test_conditioned_targets_are_those_of_the_reference(seed, channels, num_patches, kind, data):
    components = data.draw(st.integers(1, channels)) if kind.startswith("whiten") else None
    name = f"{kind}:{components}" if components else kind
    features, patches = make_targets(seed, channels, num_patches)
    module = fitted(name, features, patches, num_patches)
    found = module(torch.from_numpy(features), torch.from_numpy(patches).int()).numpy()
    assert found.dtype == np.float32
    assert np.allclose(found, reference(name, features, patches), atol=5e-3)
    if kind != "none":
        assert np.allclose(found.mean(axis=0), 0, atol=1e-3)
    if kind.endswith("-patch"):
        assert all(np.allclose(found[patches == patch].mean(axis=0), 0, atol=2e-3) for patch in range(num_patches))
    if components:
        assert found.shape == (len(features), components)
        assert np.allclose(found.T @ found / len(found), np.eye(components), atol=2e-3)
    again = fitted(name, features, patches, num_patches).state_dict()
    assert all(value.numpy().tobytes() == again[key].numpy().tobytes() for key, value in module.state_dict().items())


def test_constant_targets_stay_finite():
    features, patches = np.full((30, 4), 1.7, dtype=np.float16), np.zeros(30, dtype=np.int64)
    assert fitted("whiten:3", features, patches, 1)(torch.from_numpy(features)).isfinite().all()


def rows_of(cache, chosen):
    clips = [cache.read_clip(index, np.arange(cache.sequences[index].num_frames)) for index in chosen]
    patches = np.concatenate([clip.patches for clip in clips]).astype(np.int64)
    return np.concatenate([clip.features for clip in clips]), patches, np.concatenate([clip.frame_features for clip in clips])


def same_statistics(found, expected):
    return all(torch.allclose(mine, theirs, rtol=1e-12, atol=1e-9) for mine, theirs in zip(astuple(found), astuple(expected), strict=True))


@pytest.mark.parametrize("chosen", [(0, 2, 4), (1, 5)])
def test_statistics_of_a_store_are_those_of_all_its_chosen_rows(small_store, chosen):
    cache = open_cache(small_store)
    features, patches, frames = rows_of(cache, chosen)
    num_patches = 2 * cache.manifest.teacher.num_patches
    assert len(np.unique(patches)) > 10
    assert same_statistics(gather_statistics(cache, chosen, "patches"), statistics_of(features, patches, num_patches))
    of_frames = gather_statistics(cache, chosen, "frames")
    assert same_statistics(of_frames, statistics_of(frames, np.zeros(len(frames), dtype=np.int64), 1))


def test_of_many_sequences_evenly_spaced_ones_are_read(store, monkeypatch):
    cache, chosen = open_cache(store), tuple(range(11))
    everything = gather_statistics(cache, chosen, "frames")
    monkeypatch.setattr("cross4d_train.conditioning.MOST_SEQUENCES", 3)
    some = gather_statistics(cache, chosen, "frames")
    assert some.counts < everything.counts
    assert same_statistics(some, gather_statistics(cache, (0, 5, 10), "frames"))


def test_evenly_spaced_sequences_by_hand(monkeypatch):
    """Four of eleven: places 0, 3.33, 6.67 and 10, so 0, 3, 7 and 10."""
    monkeypatch.setattr("cross4d_train.conditioning.MOST_SEQUENCES", 4)
    assert sample_sequences(range(20, 31)) == [20, 23, 27, 30]
    assert sample_sequences((5, 7)) == [5, 7]


def conditioned(conditioning, **objective):
    options = {"objective.conditioning": conditioning} | {f"objective.{key}": value for key, value in objective.items()}
    return make_settings(num_epochs=2).changed(options)


@pytest.mark.parametrize("objective", ["dense", "global"])
def test_only_the_training_side_is_learned_from(small_store, objective):
    training = make_training(small_store, conditioned("center", name=objective))
    cache = training.dataset.cache
    sides = [info.splits["cross-subject"] for info in cache.sequences]
    assert set(sides) == {"train", "test"}
    features, _, frames = rows_of(cache, [index for index, side in enumerate(sides) if side == "train"])
    expected = (features if objective == "dense" else frames).astype(np.float64).mean(axis=0)
    means = training.objective.conditioning.means
    assert np.allclose(means[0].numpy(), expected, atol=1e-6)
    features, _, frames = rows_of(cache, range(len(sides)))
    assert not np.allclose(means[0].numpy(), (features if objective == "dense" else frames).astype(np.float64).mean(axis=0), atol=1e-6)


def test_a_resumed_run_takes_the_fitted_numbers_from_its_checkpoint(store, tmp_path, monkeypatch):
    settings = conditioned("whiten:4")
    whole = make_training(store, settings)
    expected = curve(whole.steps())
    begun = make_training(store, settings)
    list(itertools.islice(begun.steps(), 4))
    begun.checkpoint().save(tmp_path / "checkpoint.safetensors")
    monkeypatch.setattr("cross4d_train.loop.gather_statistics", lambda *_: pytest.fail("fitted anew"))
    resumed = make_training(store, settings, checkpoint=RunFolder(tmp_path).load())
    for name in ("means", "matrix"):
        saved = resumed.checkpoint().tensors[f"objective.conditioning.{name}"]
        assert torch.equal(saved, getattr(whole.objective.conditioning, name))
        assert not torch.equal(saved, getattr(Conditioning("whiten:4", target_channels=CHANNELS, num_patches=PATCHES), name))
    assert curve(resumed.steps()) == expected[4:]


@pytest.mark.parametrize("name", ["whiten:0", "whiten", "whiten:", "whiten:-1", "whiten:x", "center:3", "center-patch:3", "foo", ""])
def test_names_that_mean_nothing_are_refused(name):
    with pytest.raises(SettingsError, match=r"(?s)objective\.conditioning = .*whiten-patch:K") as caught:
        conditioned(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", ["whiten:9", "whiten-patch:9999"])
def test_no_more_components_than_channels(name):
    assert Conditioning(name, target_channels=8, num_patches=4).channels == 8


def test_every_known_name_is_a_setting():
    for name in ("none", "center", "whiten:1", "whiten:384", "center-patch", "whiten-patch:32"):
        assert ObjectiveSettings(conditioning=name).conditioning == name


def reference_targets(batch, frame, points, module):
    """View by view: the feature minus what its own patch calls for, then the mean over the views that see the point."""
    targets, seen = torch.zeros(*frame.shape, module.channels), torch.zeros(frame.shape, dtype=torch.bool)
    for clip, token in np.ndindex(*frame.shape):
        found = []
        for row in batch.rows[clip, int(frame[clip, token]), int(points[clip, token])].tolist():
            if row >= 0:
                mean = module.means[int(batch.patches[row])] if module.per_patch else module.means[0]
                found.append((batch.features[row].float() - mean) @ module.matrix)
        if found:
            targets[clip, token], seen[clip, token] = sum(found) / len(found), True
    return targets, seen


@pytest.mark.parametrize("name", ["none", "center", "whiten:3", "center-patch", "whiten-patch:3"])
def test_targets_of_points_average_their_conditioned_views(make_batch, name):
    module = fitted(name, *make_targets(0, CHANNELS, PATCHES), PATCHES)
    batch = make_batch(visible=0.5)
    generator = torch.Generator().manual_seed(1)
    frame, points = torch.randint(3, (2, 15), generator=generator), torch.randint(64, (2, 15), generator=generator)
    targets, seen = point_targets(batch, frame, points, module)
    expected, expected_seen = reference_targets(batch, frame, points, module)
    assert 0 < seen.sum() < seen.numel()
    assert torch.equal(seen, expected_seen)
    assert torch.allclose(targets, expected, atol=1e-4)
    hidden = replace(batch, rows=torch.full_like(batch.rows, -1))
    assert not point_targets(hidden, frame, points, module)[1].any()
    assert (point_targets(hidden, frame, points, module)[0] == 0).all()


@pytest.mark.parametrize(("name", "exact"), [("none", True), ("center", True), ("whiten:6", True), ("whiten:3", False)])
def test_what_was_conditioned_can_be_restored_in_the_components_kept(name, exact):
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 4, 0.3, 0.2, 0.1]) + 3
    conditioning = Conditioning(name, target_channels=6, num_patches=None)
    wide = features.double()
    counts, sums = torch.tensor([50.0], dtype=torch.float64), wide.sum(dim=0, keepdim=True)
    conditioning.fit(TargetStatistics(counts=counts, sums=sums, products=wide.T @ wide))
    restored = conditioning.restore(conditioning(features))
    assert torch.allclose(restored, features, atol=1e-3 if exact else 1.5)
    assert exact == torch.allclose(restored, features, atol=1e-3)


def test_a_patch_that_training_never_hit_has_the_mean_of_all():
    """Targets (1, 0) and (3, 4) of patch 0, none of patch 1, (5, 2) of patch 2: means (2, 2), (9, 6) / 3 and (5, 2)."""
    features, patches = np.array([[1, 0], [3, 4], [5, 2]], dtype=np.float16), np.array([0, 0, 2])
    module = fitted("center-patch", features, patches, 3)
    assert module.means.tolist() == [[2, 2], [3, 2], [5, 2]]
    assert fitted("center", features, patches, 3).means.tolist() == [[3, 2]]
    asked = torch.tensor([[10.0, 10.0]] * 3)
    assert module(asked, torch.arange(3)).tolist() == [[8, 8], [7, 8], [5, 8]]


def test_whitening_by_hand():
    """About their mean (2, 1) the targets are (3, 0), (-3, 0), (0, -1), (0, 1): variances 9 / 2 and 1 / 2, along the axes.

    The strongest component is the first channel, divided by sqrt(4.5); the second by sqrt(0.5).
    """
    features = np.array([[5, 1], [-1, 1], [2, 0], [2, 2]], dtype=np.float16)
    module = fitted("whiten:2", features, np.zeros(4, dtype=np.int64), 1)
    expected = [[3 / 4.5**0.5, 0], [0, -1 / 0.5**0.5]]
    assert np.allclose(module(torch.tensor([[5.0, 1.0], [2.0, 0.0]])), expected, atol=1e-5)
    (strongest,) = fitted("whiten:1", features, np.zeros(4, dtype=np.int64), 1)(torch.tensor([[5.0, 7.0]])).tolist()
    assert strongest == pytest.approx([3 / 4.5**0.5])


def test_a_component_without_variance_is_not_blown_up_without_bound():
    """Of two channels one is constant: it is taken as if it had a millionth of the variance of the other, 4, so divided by 0.002."""
    features = np.array([[0, 1], [4, 1]], dtype=np.float16)
    module = fitted("whiten:2", features, np.zeros(2, dtype=np.int64), 1)
    assert np.allclose(module(torch.tensor([[4.0, 1.5]])), [[2 / 2, 0.5 / 0.002]], rtol=1e-4)
