"""What teachers compute in: a setting that is recorded, by default the device's own."""

import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_cache.teachers import load_teacher


def test_a_teacher_computes_in_what_is_asked_and_says_so() -> None:
    plain, half = load_teacher("dinov2-s", "random", precision="float32"), load_teacher("dinov2-s", "random", precision="bfloat16")
    assert (plain.spec.dtype, half.spec.dtype) == ("float32", "bfloat16")
    assert load_teacher("dinov2-s", "random").spec == plain.spec
    images = torch.rand(1, 1, 56, 56, generator=torch.Generator().manual_seed(0))
    plain, half = (load_teacher("dinov2-s", "random", image_size=56, precision=precision) for precision in ("float32", "bfloat16"))
    ours, theirs = plain(images).tokens.float(), half(images).tokens.float()
    assert not torch.equal(ours, theirs)
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=-1).mean() > 0.99


@pytest.mark.parametrize("name", ["position", "none"])
def test_a_teacher_with_a_precision_of_its_own_refuses_another(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"teacher {name} computes in float32, not in bfloat16"):
        load_teacher(name, precision="bfloat16")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"(?s)precision 'half'.*one of: float32, bfloat16"):
        load_teacher("tiny", precision="half")
