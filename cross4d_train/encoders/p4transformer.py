"""P4Transformer (Fan, Yang and Kankanhalli, CVPR 2021), the large backbone of the paper (table 3 and section 3 of the method).

At paper size 41.99 M parameters (44.14 M with its classification head) and 77.1 GFLOPs for 24 x 2,048 points (two a multiply-add,
attention products and tube embedding counted).
"""

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import Size
from cross4d_train.encoders.encoder import Depth, Encoder, Length, Tokens
from cross4d_train.encoders.grouping import ball_query, farthest_points, take, without_autocast
from cross4d_train.encoders.place import places
from cross4d_train.encoders.temporal import Kernel, Windows, windows
from cross4d_train.encoders.transformer import Block

KERNEL = Kernel(size=3, stride=2, padding=(1, 0))
"""Frames that a tube spans, in every published configuration that is here."""

MOST_PRODUCTS = {"cpu": 2**21, "cuda": 2**27, "meta": 2**62}
"""Elements of the tube embedding that exist at a time, before the maximum over neighbours."""


class P4TransformerConfig(Record):
    """Sizes of a P4Transformer.

    `radius` is in units of `metres_per_unit`, in which the network sees all coordinates; `spatial_stride` is how many points of a
    frame there are to a token. The published network has no norm at its end (`final_norm`).
    """

    radius: Length = 0.7
    num_neighbours: Size = 32
    spatial_stride: Size = 32
    width: Size = 1024
    depth: Depth = 5
    num_heads: Size = 8
    head_channels: Size = 128
    mlp_width: Size = 2048
    final_norm: bool = False
    metres_per_unit: Length = 0.3


def _mini(*, final_norm: bool = False, spatial_stride: int = 16) -> P4TransformerConfig:
    shape = {"width": 96, "depth": 2, "num_heads": 4, "head_channels": 24, "mlp_width": 192}
    return P4TransformerConfig(num_neighbours=16, spatial_stride=spatial_stride, final_norm=final_norm, **shape)


SIZES: dict[str, P4TransformerConfig] = {
    "paper": P4TransformerConfig(),
    "paper-norm": P4TransformerConfig(final_norm=True),
    "paper-fine": P4TransformerConfig(final_norm=True, spatial_stride=16),
    "ntu": P4TransformerConfig(radius=0.1, depth=10, head_channels=256, metres_per_unit=1.0),
    "small": P4TransformerConfig(width=192, depth=4, num_heads=4, head_channels=48, mlp_width=384),
    "mini": _mini(final_norm=True),
    "mini-plain": _mini(),
    "mini-fine": _mini(final_norm=True, spatial_stride=8),
    "tiny": P4TransformerConfig(
        radius=2.0, num_neighbours=8, spatial_stride=16, width=32, depth=1, num_heads=2, head_channels=16, mlp_width=64, final_norm=True
    ),
}
"""`paper` is published for MSR-Action3D, in units of 300 mm, `ntu` for NTU RGB+D; `paper-norm` and `paper-fine` are the variants of
the paper's table 20 (how much finer its tokens are it does not say),
which `mini-plain`, `mini` and `mini-fine` repeat in small."""


class TubeMaximum(Function):
    """The maximum over a group of linear maps of its members, which never exist all at once; the gradient is that of the weights."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, groups: Float32[Tensor, "token member 4"], weight: Float32[Tensor, "channel 4"]
    ) -> Float32[Tensor, "token channel"]:
        """Maxima by channel."""
        size = _chunk(groups, weight)
        pooled = [(chunk @ weight.T).max(dim=1) for chunk in groups.split(size)]
        ctx.save_for_backward(groups, weight, torch.cat([part.indices for part in pooled]).to(torch.uint8))
        return torch.cat([part.values for part in pooled])

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Float32[Tensor, "token channel"]) -> tuple[None, Float32[Tensor, "channel 4"]]:
        """The sum of the members that were largest."""
        groups: Float32[Tensor, "token member 4"]
        largest: UInt8[Tensor, "token channel"]
        groups, weight, largest = ctx.saved_tensors  # type: ignore[attr-defined]
        size = _chunk(groups, weight)
        total = torch.zeros_like(weight)
        for chunk, chosen, change in zip(groups.split(size), largest.split(size), gradient.split(size), strict=True):
            members = chunk.gather(1, chosen.long().unsqueeze(-1).expand(-1, -1, 4))
            total += torch.einsum("tc,tcx->cx", change, members)
        return None, total


def _chunk(groups: Float32[Tensor, "token member 4"], weight: Float32[Tensor, "channel 4"]) -> int:
    return max(1, MOST_PRODUCTS[groups.device.type] // (groups.shape[1] * len(weight)))


class P4Transformer(Encoder):
    """Tubes around farthest points of every other frame, embedded by their maximum, then full attention over the clip.

    Positions are taken about the clip's centroid and middle frame, as in Point4D; the published ones are those of the sensor.
    """

    Config = P4TransformerConfig
    sizes = SIZES
    config: P4TransformerConfig

    def __init__(self, config: P4TransformerConfig) -> None:
        super().__init__(config)
        self.channels, self.reach = config.width, config.radius * config.metres_per_unit
        self.tube = nn.Linear(4, config.width, bias=False)
        self.position = nn.Linear(4, config.width)
        self.blocks = nn.Sequential(
            *(
                Block(config.width, config.num_heads, config.mlp_width, head_channels=config.head_channels, bias=False, gelu=True)
                for _ in range(config.depth)
            )
        )
        self.norm = nn.LayerNorm(config.width) if config.final_norm else nn.Identity()

    def forward(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        """Encode clips; tokens of every other frame, frame after frame.

        Raises:
            SettingsError: fewer points a frame than one token stands for, or fewer frames than the kernel sees.
        """
        config, batch, unit = self.config, len(points), self.config.metres_per_unit
        num_tokens = points.shape[2] // config.spatial_stride
        if num_tokens == 0:
            raise SettingsError(
                f"clips of {points.shape[2]} points a frame",
                expected=f"at least {config.spatial_stride}, for this size of the encoder",
                hint="raise `clips.num_points`, or choose another `encoder.size`",
            )
        seen = windows(points.shape[1], KERNEL, points.device)
        clouds = points[:, seen.anchors].flatten(0, 1)
        centroids = take(clouds, farthest_points(clouds, num_tokens)).unflatten(0, (batch, -1))
        tubes = self._embed(points, seen, centroids)
        frame = seen.anchors.repeat_interleave(num_tokens).expand(batch, -1)
        centroids = centroids.flatten(1, 2)
        # Published positions count frames, so a frame is as long as a unit.
        place = places(points, centroids, frame, metres_per_frame=unit) / unit
        features = self.norm(self.blocks(tubes + self.position(place)))
        return Tokens(features=features, centroids=centroids, frame=frame)

    def _embed(
        self, points: Float32[Tensor, "batch frame point 3"], seen: Windows, centroids: Float32[Tensor, "batch window token 3"]
    ) -> Float32[Tensor, "batch _ channel"]:
        """The tubes of all tokens."""
        clouds = points[:, seen.frames].flatten(0, 2)
        num_places = seen.frames.shape[1]
        queries = centroids.unsqueeze(2).expand(-1, -1, num_places, -1, -1).flatten(0, 2)
        radius = self.config.radius * self.config.metres_per_unit
        neighbours = ball_query(clouds, queries, self.config.num_neighbours, radius)
        offsets = (take(clouds, neighbours) - queries.unsqueeze(2)) / self.config.metres_per_unit
        time = torch.arange(num_places, device=points.device, dtype=torch.float32) - num_places // 2
        time = time.view(1, -1, 1, 1, 1).expand(len(offsets) // num_places, -1, *offsets.shape[1:3], 1)
        members = torch.cat([offsets.unflatten(0, (-1, num_places)), time], dim=-1)
        with without_autocast(points.device):
            groups = members.transpose(1, 2).flatten(2, 3).flatten(0, 1)
            tubes: Tensor = TubeMaximum.apply(groups, self.tube.weight)  # type: ignore[no-untyped-call]
        by_clip: Tensor = tubes.unflatten(0, (len(points), -1))
        return by_clip
