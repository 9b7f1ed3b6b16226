"""Point4D, the student of the method (section 2): two set abstractions a frame, then a transformer over all tokens of the clip.

At paper size 3.27 M parameters and 11.5 GFLOPs for 24 x 2,048 points (two a multiply-add, attention products not counted).
"""

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import Size
from cross4d_train.encoders.encoder import Depth, Encoder, Length, Tokens
from cross4d_train.encoders.grouping import ball_neighbours, farthest_points, take
from cross4d_train.encoders.place import places
from cross4d_train.encoders.transformer import Block

MOST_MEMBERS = {"cpu": 2**15, "cuda": 2**22, "meta": 2**62}
"""Members of groups that are mapped at a time."""


class Level(Record):
    """One set abstraction: how many centroids a frame, which neighbours they see, and the widths of the shared MLP."""

    num_centroids: Size
    num_neighbours: Size
    radius: Length
    widths: tuple[Size, Size]


class Point4DConfig(Record):
    """Sizes of a Point4D. Radii are metres and suit bodies.

    `metres_per_frame` is how far apart consecutive frames lie on the time axis of the position embedding.
    """

    fine: Level
    coarse: Level
    depth: Depth
    num_heads: Size
    mlp_ratio: Size = 4
    metres_per_frame: Length = 0.1

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.coarse.widths[1]


SIZES: dict[str, Point4DConfig] = {
    "paper": Point4DConfig(
        fine=Level(num_centroids=256, num_neighbours=24, radius=0.1, widths=(32, 64)),
        coarse=Level(num_centroids=64, num_neighbours=8, radius=0.25, widths=(128, 256)),
        depth=4,
        num_heads=4,
    ),
    "small": Point4DConfig(
        fine=Level(num_centroids=128, num_neighbours=16, radius=0.15, widths=(24, 48)),
        coarse=Level(num_centroids=32, num_neighbours=8, radius=0.3, widths=(64, 96)),
        depth=3,
        num_heads=4,
        mlp_ratio=3,
    ),
    "mini": Point4DConfig(
        fine=Level(num_centroids=64, num_neighbours=12, radius=0.15, widths=(24, 48)),
        coarse=Level(num_centroids=24, num_neighbours=8, radius=0.3, widths=(64, 96)),
        depth=2,
        num_heads=4,
        mlp_ratio=2,
    ),
    "tiny": Point4DConfig(
        fine=Level(num_centroids=16, num_neighbours=8, radius=0.2, widths=(8, 16)),
        coarse=Level(num_centroids=4, num_neighbours=4, radius=0.5, widths=(16, 32)),
        depth=1,
        num_heads=2,
    ),
}


class GroupMaximum(Function):
    """The maximum over the neighbours of a group; the gradient goes to the first neighbour that has it.

    Which one that is costs twice as much as the value, so it is only asked in the backward pass; the checkpoints of a set abstraction
    would else ask twice.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, groups: Float[Tensor, "cloud centroid neighbour channel"]) -> Float[Tensor, "cloud centroid channel"]:
        """Maxima by channel."""
        ctx.save_for_backward(groups)
        return groups.amax(dim=2)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Float[Tensor, "cloud centroid channel"]) -> Float[Tensor, "cloud centroid neighbour channel"]:
        """The gradient where the maximum was, zero elsewhere."""
        (groups,) = ctx.saved_tensors  # type: ignore[attr-defined]
        largest = groups.max(dim=2, keepdim=True).indices
        spread: Tensor = torch.zeros_like(groups).scatter_(2, largest, gradient.unsqueeze(2))
        return spread


class SetAbstraction(nn.Module):
    """PointNet over the neighbours of each centroid: a shared MLP of offsets and features, then the maximum.

    The norm comes after the maximum: on raw offsets it would erase how far away a neighbour is.
    """

    def __init__(self, level: Level, channels_in: int) -> None:
        super().__init__()
        hidden, out = level.widths
        self.level = level
        self.hidden = nn.Linear(3 + channels_in, hidden)
        self.out = nn.Linear(hidden, out)
        self.norm = nn.LayerNorm(out)

    def forward(
        self,
        points: Float32[Tensor, "cloud point 3"],
        features: Float[Tensor, "cloud point channel_in"] | None,
        centroids: Float32[Tensor, "cloud centroid 3"],
    ) -> Float[Tensor, "cloud centroid channel_out"]:
        """Features of the centroids.

        Some clouds at a time, and once more in the backward pass: groups are many times larger than what comes of them, and cheap to
        make again from what is still in a cache.
        """
        neighbours, offsets = ball_neighbours(points, centroids, self.level.num_neighbours, self.level.radius)
        size = max(1, MOST_MEMBERS[points.device.type] // neighbours[0].numel())
        parts = zip(
            offsets.split(size), neighbours.split(size), [None] * len(points) if features is None else features.split(size), strict=False
        )
        return torch.cat([checkpoint(self._pool, *part, use_reentrant=False, preserve_rng_state=False) for part in parts])

    def _pool(
        self,
        offsets: Float32[Tensor, "cloud centroid neighbour 3"],
        neighbours: Int64[Tensor, "cloud centroid neighbour"],
        features: Float[Tensor, "cloud point channel_in"] | None,
    ) -> Float[Tensor, "cloud centroid channel_out"]:
        grouped = offsets if features is None else torch.cat([offsets, take(features, neighbours).to(offsets)], dim=-1)
        pooled: Tensor = GroupMaximum.apply(  # type: ignore[no-untyped-call]
            self.out(functional.relu(self.hidden(grouped)))
        )
        # ReLU and maximum commute, and after the maximum there is far less to do.
        normed: Tensor = self.norm(functional.relu(pooled))
        return normed


class Point4D(Encoder):
    """Per-frame set abstraction, position added, full spatio-temporal attention, final norm.

    Positions are taken about the clip's centroid and middle frame, so that where the sensor stood does not matter.
    """

    Config = Point4DConfig
    sizes = SIZES
    config: Point4DConfig

    def __init__(self, config: Point4DConfig) -> None:
        super().__init__(config)
        self.channels, self.reach = config.width, config.fine.radius
        self.fine = SetAbstraction(config.fine, 0)
        self.coarse = SetAbstraction(config.coarse, config.fine.widths[1])
        self.position = nn.Sequential(nn.Linear(4, config.width), nn.GELU(), nn.Linear(config.width, config.width))
        self.blocks = nn.Sequential(*(Block(config.width, config.num_heads, config.mlp_ratio * config.width) for _ in range(config.depth)))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        """Encode clips; `num_centroids` tokens a frame of the coarse level, frame after frame.

        Raises:
            SettingsError: fewer points a frame than the fine level has centroids.
        """
        batch, num_frames, num_points = points.shape[:3]
        if num_points < self.config.fine.num_centroids:
            raise SettingsError(
                f"clips of {num_points} points a frame",
                expected=f"at least {self.config.fine.num_centroids}, for this size of the encoder",
                hint="raise `clips.num_points`, or choose a smaller `encoder.size`",
            )
        clouds = points.flatten(0, 1)
        fine = take(clouds, farthest_points(clouds, self.config.fine.num_centroids))
        coarse = fine[:, : self.config.coarse.num_centroids]  # the farthest points of the farthest points come first among them
        features = self.coarse(fine, self.fine(clouds, None, fine), coarse).reshape(batch, -1, self.channels)
        centroids = coarse.reshape(batch, -1, 3)
        frame = torch.arange(num_frames, device=points.device).repeat_interleave(self.config.coarse.num_centroids)
        frame = frame.expand(batch, -1)
        tokens = features + self.position(places(points, centroids, frame, self.config.metres_per_frame))
        return Tokens(features=self.norm(self.blocks(tokens)), centroids=centroids, frame=frame)
