"""MaST-Pre (Shen et al., ICCV 2023): reconstruct hidden point tubes, and predict how many points enter and leave their octants."""

from jaxtyping import Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.encoders.place import places
from cross4d_train.objectives.masking import POINTS_PER_TUBE, TUBE_FRAMES, hide_tubes
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars, TargetSpec
from cross4d_train.objectives.predictor import Predictor
from cross4d_train.objectives.reconstruction import OCTANTS, chamfer_distance, tube_contents

HIDDEN = 0.75
"""Share of the tubes, as published."""

DEPTH, NUM_HEADS = 4, 4
"""Of the decoder, half as wide as the encoder: 4 layers and half the width are published, there with 8 wider heads."""


class MaSTPre(Objective):
    """Chamfer distance of the tubes' points in each frame, and smooth L1 distance of temporal cardinality differences, weighted alike.

    As published, but for three things: points are predicted about the tube's centre, an octant counts points without sharing them with
    its neighbours, and what is masked are points, not embedded tubes, so that any encoder will do.
    """

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        width = encoder.channels // 2
        self.decoder = Predictor(encoder.channels, width=width, depth=DEPTH, num_heads=NUM_HEADS)
        self.points_head = nn.Linear(width, TUBE_FRAMES * POINTS_PER_TUBE * 3)
        self.motion_head = nn.Linear(width, (TUBE_FRAMES - 1) * OCTANTS)

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The sum of both distances, which are the scalars."""
        masking = hide_tubes(batch.points, share=HIDDEN, generator=batch.generator())
        contents = tube_contents(batch.points, masking)
        context = encoder(masking.context)
        answers = self.decoder(
            context,
            places(batch.points, context.centroids, context.frame),
            places(batch.points, masking.hidden_centres, masking.hidden_frames),
        )
        points = self.points_head(answers).float().unflatten(-1, (TUBE_FRAMES, POINTS_PER_TUBE, 3))
        motion = self.motion_head(answers).float().unflatten(-1, (TUBE_FRAMES - 1, OCTANTS))
        reconstruction = chamfer_distance(points, contents.points).mean()
        difference = functional.smooth_l1_loss(motion, contents.counts.diff(dim=2))
        return reconstruction + difference, {"reconstruction": reconstruction.detach(), "motion": difference.detach()}
