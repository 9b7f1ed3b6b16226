from dataclasses import replace

import pytest

from cross4d_train.data import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.probe import LinearProbe, ProbeSettings
from cross4d_train.evaluation.source import EncoderSource
from cross4d_train.settings import EncoderSettings, Origin, recipe_clips

CLIPS = recipe_clips("fake")


@pytest.fixture
def dataset(store):
    return ClipDataset(store, CLIPS, targets=False)


@pytest.fixture
def source(dataset):
    return EncoderSource(
        label="run",
        encoder=build_encoder("point4d", "tiny"),
        settings=EncoderSettings(size="tiny"),
        clips=CLIPS,
        protocol="cross-subject",
        side="train",
        origin=Origin.of(dataset.cache.manifest),
        step=1,
    )


def test_test_videos_the_encoder_has_seen(dataset, source):
    def seen(**changes):
        return LinearProbe(replace(source, **changes), dataset, ProbeSettings(clips=CLIPS)).num_test_seen

    assert seen() == 0
    assert seen(side="test") == 4
    assert seen(side="all", protocol=None) == 4
    assert seen(origin=None, side=None) == 0
    elsewhere = {name: source.origin.model_copy(update={name: "other"}) for name in ("dataset", "sequences", "fingerprint")}
    assert seen(side="all", origin=elsewhere["dataset"]) == 0
    assert seen(side="all", origin=elsewhere["fingerprint"]) == 4, "another teacher, but the same videos"
    assert seen(side="all", origin=elsewhere["sequences"]) is None
    assert seen(protocol="a protocol this store does not know") is None
