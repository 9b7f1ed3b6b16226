"""What every evaluation of one encoder on one store has to do."""

import json
from typing import ClassVar

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.clips import ClipSettings
from cross4d_train.dataset import ClipDataset
from cross4d_train.encoders import build_encoder
from cross4d_train.evaluation.encoder_source import EncoderSource
from cross4d_train.evaluation.evaluate import EVALUATIONS
from cross4d_train.evaluation.features import weights_digest
from cross4d_train.resources import Resources
from cross4d_train.settings import EncoderSettings, Origin
from tests.cross4d_train.conftest import make_infos, write_store

CLIPS = ClipSettings(num_frames=4, num_points=64, stride=1)


class EvaluationContract:
    """Subclasses say which evaluation, and with which settings it is quick."""

    name: ClassVar[str]
    options: ClassVar[dict] = {}

    @classmethod
    def make(cls, path, *, encoder=None, origin=None, **options):
        kind, settings = EVALUATIONS[cls.name]
        chosen = settings(clips=CLIPS, num_windows=2, **(cls.options | options))
        dataset = ClipDataset(path, CLIPS, targets=False, labels=kind.labels)
        source = EncoderSource(
            label="run",
            encoder=encoder or build_encoder("point4d", "tiny", 3),
            settings=EncoderSettings(size="tiny"),
            clips=CLIPS,
            protocol="cross-subject",
            side="train" if origin else None,
            origin=origin,
            step=1,
        )
        return kind(source, dataset, chosen)

    @classmethod
    def run(cls, path, resources=None, **options):
        evaluation = cls.make(path, **options)
        return list(evaluation.run(resources or Resources(device="cpu"))), evaluation

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, store):
        """One that has run to its end, for the tests that only look."""
        return cls.run(store)[1]

    def test_progress_counts_to_the_total_gradients_stay_on_and_the_encoder_is_as_before(self, store, finished):
        encoder = build_encoder("point4d", "tiny", 3)
        before, count = weights_digest(encoder), 0
        evaluation = self.make(store, encoder=encoder)
        for _ in evaluation.run(Resources(device="cpu")):
            assert torch.is_grad_enabled()
            count += 1
        assert count == evaluation.total
        assert weights_digest(encoder) == before
        assert evaluation.result() == finished.result()  # same seed, same result

    def test_workers_change_nothing(self, store, finished):
        assert finished.result() == self.run(store, Resources(device="cpu", num_workers=1))[1].result()

    def test_a_result_says_how_it_came_about_and_survives_json(self, finished):
        evaluation = finished
        result = evaluation.result()
        record = json.loads(result.model_dump_json())
        assert type(result).model_validate(record) == result
        here = Origin.of(evaluation.dataset.cache.manifest)
        assert record["evaluation"]["fingerprint"] == here.fingerprint
        assert record["settings"]["seed"] == 0
        assert record["settings"]["protocol"] == "cross-subject"
        assert record["software"]["torch"] == torch.__version__.partition("+")[0] or record["software"]["torch"] == torch.__version__
        text = result.describe()
        assert "run" in text
        assert "fake" in text

    def test_test_videos_seen_in_pretraining_are_told(self, store):
        seen = self.make(store, origin=Origin.of(self.make(store).dataset.cache.manifest))
        assert seen.num_test_seen == 0

    def test_a_protocol_the_store_does_not_have(self, store):
        with pytest.raises(SettingsError, match="no protocol 'cross-setup'"):
            self.make(store, protocol="cross-setup")

    def test_a_store_without_what_it_needs_is_refused(self, tmp_path):
        path = write_store(tmp_path / "bare.zarr", make_infos(labelled=False), labels=False)
        with pytest.raises(SettingsError):
            self.run(path)[1].result()
