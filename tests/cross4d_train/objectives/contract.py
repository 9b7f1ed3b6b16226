"""The shipped suites on objectives of the package, which are known by name and take targets in several conditionings."""

import pytest

from cross4d_train.encoders.encoder import Encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.objective import Objective, ObjectiveSettings
from cross4d_train.testing import DistillationContract, IntraModalContract, ObjectiveContract
from cross4d_train.testing.batch import random_batch
from cross4d_train.testing.objective import MakeObjective


class BuiltInObjectiveContract(ObjectiveContract):
    name: str
    conditionings: tuple[str, ...] = ("none",)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        super().pytest_generate_tests(metafunc)
        if "conditioning" in metafunc.fixturenames:
            chosen = self.conditionings[-1:] if "encoder_name" in metafunc.fixturenames else self.conditionings
            metafunc.parametrize("conditioning", chosen)

    @pytest.fixture
    def make_objective(self, conditioning: str) -> MakeObjective:
        settings = ObjectiveSettings(name=self.name, conditioning=conditioning)
        return lambda encoder, targets: build_objective(settings, encoder, targets)

    def test_loss_is_positive(self, encoder: Encoder, objective: Objective) -> None:
        assert objective(encoder, random_batch())[0] > 0


class BuiltInDistillationContract(BuiltInObjectiveContract, DistillationContract):
    pass


class BuiltInIntraModalContract(BuiltInObjectiveContract, IntraModalContract):
    pass
