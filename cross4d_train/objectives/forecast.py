"""The paper's forecasting family (section 3 of the method): what will the teacher say of points of frames that are still to come?

The paper names the variants and says that none beats dense distillation, but describes none; so this is our reading of them.
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.encoders.place import places
from cross4d_train.encoders.transformer import Block
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import ObjectiveSettings, Scalars, TargetSpec
from cross4d_train.objectives.predictor import Predictor
from cross4d_train.token_targets import point_targets, view_targets

QUERIES = 32
"""Points of every later frame that are asked for, the first of the frame, which a clip holds in random order."""

DEPTH, NUM_HEADS = 2, 4
"""Of the predictor, which is as wide as the encoder."""


class Forecast(Distillation):
    """The encoder sees the first half of a clip; asked are features of points of the second half, whose place and time are given.

    Future view, the plain form: one prediction for every view, with a linear head of its own. `field`: a view-invariant latent field, one
    prediction for the mean over the views that see the point. `rollout`: latent dynamics; the tokens are advanced by one block a
    frame, the same for all, and a frame is asked of the state that has come as far. `consistency`: the predictions for different
    views of a point are to agree as well (multi-view consistency).
    """

    source = "patches"
    switches: ClassVar[tuple[str, ...]] = ("field", "rollout", "consistency")

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        self.is_field, self.is_consistent = "field" in settings.switches, "consistency" in settings.switches
        if self.is_consistent and self.is_field:
            raise SettingsError(
                "forecast:field+consistency", expected="one of the two: a field is the same in every view", hint="leave one out"
            )
        if self.is_consistent and targets.num_views == 1:
            raise SettingsError(
                "forecast:consistency with targets of a single view",
                expected="a store of two views or more",
                hint="build one with `cross4d-cache build --views 2`",
            )
        self.num_predictions = 1 if self.is_field else targets.num_views
        width = encoder.channels
        self.predictor = Predictor(width, width=width, depth=DEPTH, num_heads=NUM_HEADS)
        self.dynamics = Block(width, NUM_HEADS, 4 * width) if "rollout" in settings.switches else None
        self.head = nn.Linear(width, self.num_predictions * self.conditioning.channels)

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The loss of equation 6 over the points asked for, with predictions of every view as items of their own.

        Raises:
            SettingsError: a clip of one frame.
        """
        num_clips, num_frames, num_points = batch.points.shape[:3]
        num_known = num_frames // 2
        if num_known == 0:
            raise SettingsError("clips of one frame", expected="two frames or more, to forecast", hint="raise `clips.num_frames`")
        asked = min(QUERIES, num_points)
        frame = torch.arange(num_known, num_frames, device=batch.points.device).repeat_interleave(asked).expand(num_clips, -1)
        points = torch.arange(asked, device=frame.device).repeat(num_frames - num_known).expand(num_clips, -1)
        if self.is_field:
            features, visible = point_targets(batch, frame, points, self.conditioning)
            targets, seen = features.unsqueeze(2), visible.unsqueeze(2)
        else:
            targets, seen = view_targets(batch, frame, points, self.conditioning)
        answers = self._answer(encoder, batch, num_known, frame, asked)
        predictions = self.head(answers).float().unflatten(-1, (self.num_predictions, -1))
        loss, scalars = self.distil(predictions, targets, seen.float())
        if self.is_consistent:
            weights = seen.any(dim=-1).float()
            apart = 1 - functional.cosine_similarity(predictions, predictions.roll(1, dims=2), dim=-1).mean(dim=2)
            apart = (apart * weights).sum() / weights.sum().clamp(min=1)
            loss, scalars = loss + apart, {**scalars, "inconsistency": apart.detach()}
        return loss, scalars

    def _answer(
        self, encoder: Encoder, batch: Batch, num_known: int, frame: Int64[Tensor, "batch query"], asked: int
    ) -> Float[Tensor, "batch query channel"]:
        """What the known frames say of the points asked for."""
        known = batch.points[:, :num_known]
        tokens = encoder(known)
        context = places(known, tokens.centroids, tokens.frame)
        queries = places(known, batch.points[:, num_known:, :asked].flatten(1, 2), frame)
        if self.dynamics is None:
            answers: Tensor = self.predictor(tokens, context, queries)
            return answers
        state, found = tokens.features, []
        for query in queries.split(asked, dim=1):
            state = self.dynamics(state)
            found.append(self.predictor(Tokens(features=state, centroids=tokens.centroids, frame=tokens.frame), context, query))
        return torch.cat(found, dim=1)
