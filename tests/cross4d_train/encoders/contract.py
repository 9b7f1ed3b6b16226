"""The shipped suite on encoders of the package, which are known by name and size."""

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.testing import EncoderContract


class BuiltInEncoderContract(EncoderContract):
    name: str
    size = "tiny"

    @pytest.fixture
    def encoder(self) -> Encoder:
        return build_encoder(self.name, self.size, seed=3)

    def test_the_suite_tests_what_the_name_gives(self, encoder: Encoder, student: Encoder) -> None:
        for mine, theirs in zip(encoder.parameters(), student.parameters(), strict=True):
            assert torch.equal(mine, theirs)

    def test_seed_decides_weights_by_name(self, encoder: Encoder) -> None:
        state = torch.random.get_rng_state()
        again, other = build_encoder(self.name, self.size, seed=3), build_encoder(self.name, self.size, seed=4)
        assert torch.equal(torch.random.get_rng_state(), state)
        pairs = list(zip(encoder.parameters(), again.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(mine, same) for mine, same, _ in pairs)
        assert any(not torch.equal(mine, different) for mine, _, different in pairs)

    def test_too_few_points_is_a_users_error(self, encoder: Encoder) -> None:
        with pytest.raises(SettingsError, match=r"raise `clips\.num_points`"):
            encoder(torch.zeros(1, 4, 3, 3))
