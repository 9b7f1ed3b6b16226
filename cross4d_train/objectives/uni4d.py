"""Uni4D (Zuo et al., 2025): masked autoencoding whose decoder answers in points and in latents, with three alignments to a slow copy."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_train.data import Batch
from cross4d_train.encoders.encoder import Encoder, Tokens
from cross4d_train.encoders.place import places
from cross4d_train.objectives.masking import POINTS_PER_TUBE, TUBE_FRAMES, hide_tubes
from cross4d_train.objectives.momentum_encoder import MomentumEncoder
from cross4d_train.objectives.objective import Objective, ObjectiveSettings, Scalars, TargetSpec
from cross4d_train.objectives.predictor import Predictor
from cross4d_train.objectives.reconstruction import chamfer_distance, tube_contents

HIDDEN = 0.75
MOMENTUM = 0.999
TEMPERATURE = 0.1
QUEUE = 12_288
"""As published for MSR-Action3D: share of hidden tubes, momentum of the slow copy, temperature of both contrastive losses, and how
many earlier clips the global one tells a clip from. The four losses are weighted alike."""

DEPTH, NUM_HEADS = 4, 4
"""Of the decoder, half as wide as the encoder; published are 4 or 5 layers with 8 wider heads."""

GEOMETRY, LATENT = 0, 1
"""The two kinds of queries of the decoder."""


class Uni4D(Objective):
    """Geometry: the points of hidden tubes. Latent: the slow copy's tokens in hidden tubes, by their cosine. Motion: from what is
    visible of a frame the slow copy's next frame, among all frames of the clip. Global: from what is visible of a clip the slow
    copy's whole clip, among earlier clips.

    As published, but that points are masked, not embedded tubes, so that any encoder will do, and that heads have layer norms in
    place of batch norms.
    """

    queue: Float32[Tensor, "earlier channel"]

    def __init__(self, settings: ObjectiveSettings, encoder: Encoder, targets: TargetSpec) -> None:
        super().__init__(settings, encoder, targets)
        channels, width = encoder.channels, encoder.channels // 2
        self.target = MomentumEncoder(encoder)
        self.decoder = Predictor(channels, width=width, depth=DEPTH, num_heads=NUM_HEADS, num_kinds=2)
        self.points_head = nn.Linear(width, TUBE_FRAMES * POINTS_PER_TUBE * 3)
        self.latent_head = nn.Linear(width, channels)
        self.motion_head = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.LayerNorm(2 * channels), nn.ReLU(), nn.Linear(2 * channels, channels)
        )
        self.global_head = nn.Linear(channels, channels)
        strangers = torch.randn(QUEUE, channels, generator=torch.Generator().manual_seed(0))
        self.register_buffer("queue", functional.normalize(strangers, dim=-1))

    def forward(self, encoder: Encoder, batch: Batch) -> tuple[Float32[Tensor, ""], Scalars]:
        """The sum of the four losses, which are the scalars."""
        masking = hide_tubes(batch.points, share=HIDDEN, generator=batch.generator())
        whole, context = self.target(batch.points), encoder(masking.context)
        context_places = places(batch.points, context.centroids, context.frame)
        tubes = places(batch.points, masking.hidden_centres, masking.hidden_frames)
        points = self.points_head(self.decoder(context, context_places, tubes, GEOMETRY)).float()
        contents = tube_contents(batch.points, masking)
        token_places = places(batch.points, whole.centroids, whole.frame)
        latents = self.latent_head(self.decoder(context, context_places, token_places, LATENT)).float()
        hidden = masking.hides(whole.centroids, whole.frame).float()
        apart = 1 - functional.cosine_similarity(latents, whole.features.float(), dim=-1)
        seen, known = frame_features(context).float(), frame_features(whole).float()
        clips = functional.normalize(known.amax(dim=1), dim=-1)
        losses = {
            "geometry": chamfer_distance(points.unflatten(-1, (TUBE_FRAMES, POINTS_PER_TUBE, 3)), contents.points).mean(),
            "latent": (apart * hidden).sum() / hidden.sum().clamp(min=1),
            "motion": self._motion(seen, known),
            "global": self._global(seen.amax(dim=1), clips),
        }
        if self.training:
            self._remember(clips)
        return torch.stack(list(losses.values())).sum(), {name: value.detach() for name, value in losses.items()}

    def _motion(self, seen: Float32[Tensor, "batch frame channel"], known: Float32[Tensor, "batch frame channel"]) -> Float32[Tensor, ""]:
        """Which frame comes next; zero for tokens of a single frame."""
        guesses = functional.normalize(self.motion_head(seen[:, :-1]).float(), dim=-1)
        logits: Tensor = guesses @ functional.normalize(known[:, 1:], dim=-1).transpose(1, 2) / TEMPERATURE
        own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
        count = max(own.numel(), 1)
        return functional.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction="sum") / count

    def _global(self, seen: Float32[Tensor, "batch channel"], known: Float32[Tensor, "batch channel"]) -> Float32[Tensor, ""]:
        """Which clip this is, its own before all of the queue."""
        guesses = functional.normalize(self.global_head(seen).float(), dim=-1)
        own = (guesses * known).sum(dim=-1, keepdim=True)
        logits = torch.cat([own, guesses @ self.queue.T.clone()], dim=-1) / TEMPERATURE  # the backward pass needs it as it was
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=logits.device))

    @torch.no_grad()
    def _remember(self, clips: Float32[Tensor, "batch channel"]) -> None:
        """The clips of a step enter the queue, and as many of the oldest leave it."""
        self.queue.copy_(torch.cat([clips, self.queue])[:QUEUE])

    @torch.no_grad()
    def finish_step(self, encoder: Encoder, progress: float) -> None:
        """The slow copy follows."""
        self.target.follow(encoder, MOMENTUM)


def frame_features(tokens: Tokens) -> Float[Tensor, "batch frame channel"]:
    """The maximum over the tokens of each frame that has some; encoders give equally many for each, frame after frame."""
    num_frames = len(tokens.frame[0].unique())
    by_frame: Tensor = tokens.features.unflatten(1, (num_frames, -1))
    return by_frame.amax(dim=2)
