import pytest
import torch

from cross4d_cache.errors import SettingsError
from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.global_distillation import EPSILON, standardise
from cross4d_train.objectives.objective import ObjectiveSettings
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInDistillationContract


class TestGlobalDistillation(BuiltInDistillationContract):
    name = "global"
    conditionings = ("none", "center", "whiten:4")


class TestStandardisedGlobalDistillation(TestGlobalDistillation):
    @pytest.fixture
    def make_objective(self, conditioning):
        settings = ObjectiveSettings(name="global", conditioning=conditioning, standardised=True)
        return lambda encoder, targets: build_objective(settings, encoder, targets)


@pytest.mark.parametrize("conditioning", ["center-patch", "whiten-patch:4"])
def test_global_embeddings_have_no_patch(conditioning):
    settings = ObjectiveSettings(name="global", conditioning=conditioning)
    with pytest.raises(SettingsError, match=r"(?s)belong to no patch.*none, center or whiten:K.*`objective.conditioning`"):
        build_objective(settings, build_encoder("point4d", "tiny"), TARGETS)


def test_loss_matches_the_reference(make_batch):
    """Clip by clip; one clip of which no view sees a point is left out."""
    batch = make_batch(clips=4)
    batch.rows[2] = -1
    encoder = build_encoder("point4d", "tiny")
    settings = ObjectiveSettings(name="global", conditioning="none", variance_weight=0)
    objective = build_objective(settings, encoder, TARGETS)
    tokens = encoder(batch.points)
    loss, scalars = objective(encoder, batch)
    losses = []
    for clip in (0, 1, 3):
        target = torch.stack([frame.float() for frame in batch.frame_features[clip]]).mean(dim=0)
        prediction = objective.head(torch.stack(list(tokens.features[clip])).mean(dim=0))
        losses.append(1 - torch.dot(prediction, target) / (prediction.norm() * target.norm()))
    assert torch.allclose(loss, torch.stack(losses).mean(), atol=1e-5)
    assert scalars["visible"] == 0.75


def test_mean_tokens_are_standardised_over_the_clips_that_count():
    """Channel 0: 1 and 5 have mean 3 and deviation 2. Channel 1 is the same in both, and stays finite. The third clip has no target."""
    pooled = torch.tensor([[1.0, 7.0], [5.0, 7.0], [100.0, 9.0]])
    found = standardise(pooled, torch.tensor([1.0, 1.0, 0.0]))
    spread = (4 + EPSILON) ** 0.5
    assert torch.allclose(found[:2], torch.tensor([[-2 / spread, 0.0], [2 / spread, 0.0]]))
    assert found.isfinite().all()
    assert torch.equal(standardise(pooled[:1], torch.ones(1)), torch.zeros(1, 2))


def test_what_all_clips_share_does_not_matter_once_standardised():
    """A common part of any size in all mean tokens, as starting weights give them, leaves predictions as they are."""
    pooled = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(standardise(pooled + 50, torch.ones(5)), standardise(pooled, torch.ones(5)), atol=1e-4)


@pytest.mark.parametrize("standardised", [False, True])
def test_the_setting_decides_what_the_head_sees(make_batch, standardised):
    """Absent, as in release 0.1, the head sees the mean tokens themselves."""
    batch, encoder = make_batch(clips=4, visible=1.0), build_encoder("point4d", "tiny")
    settings = ObjectiveSettings(name="global", conditioning="none", variance_weight=0, standardised=standardised)
    objective = build_objective(settings, encoder, TARGETS)
    pooled = encoder(batch.points).features.mean(dim=1)
    if standardised:
        pooled = (pooled - pooled.mean(dim=0)) / (pooled.var(dim=0, correction=0) + EPSILON).sqrt()
    targets = batch.frame_features.float().mean(dim=1)
    expected = 1 - torch.nn.functional.cosine_similarity(objective.head(pooled), targets, dim=-1).mean()
    assert torch.allclose(objective(encoder, batch)[0], expected, atol=1e-4)


def test_only_new_global_runs_of_centred_targets_are_standardised_and_only_then_is_it_recorded():
    assert not ObjectiveSettings(name="global").standardised
    assert ObjectiveSettings(name="global", conditioning="center").as_new().standardised
    for old in (ObjectiveSettings(name="dense"), ObjectiveSettings(name="global", conditioning="none")):
        assert old.as_new() == old
        assert "standardised" not in old.as_new().model_dump_json()
    written = ObjectiveSettings(name="global").as_new().model_dump(mode="json")
    assert (written["standardised"], written["requires"]) == (True, ["standardised"])
