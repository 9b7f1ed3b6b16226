import pytest
import torch

from cross4d_train.encoders import build_encoder
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.masking import hide_tubes
from cross4d_train.objectives.mastpre import HIDDEN
from cross4d_train.objectives.objective import ObjectiveSettings
from cross4d_train.objectives.reconstruction import chamfer_distance, tube_contents
from tests.cross4d_train.conftest import TARGETS
from tests.cross4d_train.objectives.contract import BuiltInIntraModalContract


class TestMaSTPre(BuiltInIntraModalContract):
    name = "mastpre"


def test_loss_matches_the_reference(make_batch, monkeypatch):
    """Tube by tube, with known answers of the decoder."""
    encoder, batch = build_encoder("point4d", "tiny"), make_batch(frames=6)
    objective = build_objective(ObjectiveSettings(name="mastpre"), encoder, TARGETS)
    masking = hide_tubes(batch.points, share=HIDDEN, generator=batch.generator())
    contents = tube_contents(batch.points, masking)
    answers = torch.randn(*masking.hidden_frames.shape, encoder.channels // 2, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(objective.decoder, "forward", lambda *_: answers)
    loss, scalars = objective(encoder, batch)
    distances, differences = [], []
    for clip in range(len(batch)):
        for tube, answer in enumerate(answers[clip]):
            points = objective.points_head(answer).view(3, 32, 3)
            distances += [chamfer_distance(points[frame], contents.points[clip, tube, frame]) for frame in range(3)]
            for step in range(2):
                change = contents.counts[clip, tube, step + 1] - contents.counts[clip, tube, step]
                apart = (objective.motion_head(answer).view(2, 8)[step] - change).abs()
                differences.append(torch.where(apart < 1, apart**2 / 2, apart - 0.5).mean())
    assert scalars["reconstruction"].item() == pytest.approx(torch.stack(distances).mean().item(), rel=1e-4)
    assert scalars["motion"].item() == pytest.approx(torch.stack(differences).mean().item(), rel=1e-4)
    assert loss.item() == pytest.approx(sum(value.item() for value in scalars.values()), rel=1e-5)
