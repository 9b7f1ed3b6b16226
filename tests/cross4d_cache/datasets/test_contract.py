"""The shipped suite on every dataset of the package; a new one is done when it stands in `opener` and passes."""

import errno
from pathlib import Path

import numpy as np
import pytest

from cross4d_cache import patience
from cross4d_cache.datasets import DATASETS, open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.datasets.files import FileDataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.testing import DatasetContract
from cross4d_cache.testing.dataset import Opener
from tests.cross4d_cache.datasets.examples.all_examples import EXAMPLES
from tests.failing import below, failing

FORMS = {example.name: example for example in EXAMPLES}


def test_every_dataset_has_an_example() -> None:
    assert {example.dataset for example in EXAMPLES} | {"synthetic"} == set(DATASETS.built_in)
    assert len(FORMS) == len(EXAMPLES)


class TestBuiltInDatasets(DatasetContract):
    @pytest.fixture(scope="class", params=["synthetic", *FORMS])
    @classmethod
    def opener(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opener:
        """Opens a small instance of the dataset, anew at each call."""
        if request.param == "synthetic":
            return lambda: open_dataset("synthetic", options={"num_humans": "2", "num_animals": "2", "max_frames": "24"})
        example = FORMS[request.param]
        folder = tmp_path_factory.mktemp(example.dataset)
        example.write(folder)
        return lambda: open_dataset(example.dataset, folder, dict(example.options))

    def test_both_sides_of_every_protocol_have_sequences(self, dataset: Dataset, request: pytest.FixtureRequest) -> None:
        name = request.node.callspec.params["opener"]
        if name in FORMS and not FORMS[name].splits:
            pytest.skip(f"{name} has no splits")
        super().test_both_sides_of_every_protocol_have_sequences(dataset)

    def test_there_are_protocols_and_a_page(self, dataset: Dataset) -> None:
        assert dataset.protocols
        if isinstance(dataset, FileDataset):
            assert bool(dataset.release.page) == bool(dataset.release.files) == (dataset.name != "folder")

    def test_errors_that_pass_are_waited_out(self, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
        dataset = opener()
        if dataset.root is None:
            pytest.skip("it reads no files")
        monkeypatch.setattr(patience, "FIRST_WAIT", 0.0)
        info = dataset.sequences()[0]
        expected = dataset.read(info)
        with failing(errno.ESTALE, below(dataset.root, "open", 1)) as failed:
            again = opener()
            np.testing.assert_array_equal(again.read(again.sequences()[0]).points, expected.points)
        assert failed

    def test_unknown_options_are_refused(self, opener: Opener) -> None:
        dataset = opener()
        with pytest.raises(SettingsError, match="no_such_option"):
            open_dataset(dataset.name, dataset.root, {"no_such_option": "1"})

    def test_a_dataset_that_lives_in_a_folder_says_when_it_is_missing(self, opener: Opener, tmp_path: Path) -> None:
        dataset = opener()
        if not dataset.needs_root:
            assert dataset.root is None
            return
        with pytest.raises(DatasetError, match=r"`dataset\.root`"):
            open_dataset(dataset.name, None)
        with pytest.raises(DatasetError, match="does not exist"):
            open_dataset(dataset.name, tmp_path / "nowhere")
        with pytest.raises(DatasetError, match="holds no"):
            open_dataset(dataset.name, tmp_path).sequences()
