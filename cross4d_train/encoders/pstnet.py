"""PSTNet (Fan et al., ICLR 2021), a backbone of point spatio-temporal convolutions, as published for MSR-Action3D.

8.26 M parameters with its linear head for 20 actions.
"""

import math

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn
from torch.nn import functional

from cross4d_cache.errors import SettingsError
from cross4d_cache.record import Record
from cross4d_cache.types import Size
from cross4d_train.encoders.encoder import Encoder, Length, Tokens
from cross4d_train.encoders.grouping import ball_query, farthest_points, take
from cross4d_train.encoders.temporal import Kernel, windows

POINT = Kernel()
HALVING = Kernel(size=3, stride=2, padding=(1, 0))
KEEPING = Kernel(size=3, stride=1, padding=(1, 1))


class Convolution(Record):
    """One convolution: widths of its spatial and its temporal half, its temporal kernel, how many points it leaves (a share of 1 /
    `spatial_stride`), and its radius as a multiple of the network's."""

    middle: Size
    out: Size
    kernel: Kernel
    spatial_stride: Size
    scale: Size


class PSTNetConfig(Record):
    """Sizes of a PSTNet; `radius` is metres."""

    convolutions: tuple[Convolution, ...]
    radius: Length = 0.15
    num_neighbours: Size = 9

    @property
    def spatial_stride(self) -> int:
        """How many points of a frame there are to a token."""
        return math.prod(layer.spatial_stride for layer in self.convolutions)


def _pyramid(widths: tuple[tuple[int, int], ...], strides: tuple[int, ...]) -> tuple[Convolution, ...]:
    """The six convolutions of the published network, with other widths and strides."""
    kernels = (POINT, HALVING, KEEPING, HALVING, KEEPING, POINT)
    return tuple(
        Convolution(middle=middle, out=out, kernel=kernel, spatial_stride=stride, scale=scale)
        for (middle, out), kernel, stride, scale in zip(widths, kernels, strides, (1, 2, 2, 4, 4, 4), strict=True)
    )


PUBLISHED = ((45, 64), (96, 128), (192, 256), (284, 512), (768, 1024), (1536, 2048))
SIZES: dict[str, PSTNetConfig] = {
    "paper": PSTNetConfig(convolutions=_pyramid(PUBLISHED, (2, 2, 1, 2, 1, 2))),
    "small": PSTNetConfig(convolutions=_pyramid(((24, 32), (32, 48), (48, 64), (64, 96), (96, 128), (128, 192)), (2, 2, 1, 2, 1, 2))),
    "mini": PSTNetConfig(
        convolutions=_pyramid(((24, 32), (32, 48), (48, 48), (48, 64), (64, 64), (64, 96)), (4, 2, 1, 2, 1, 1)), radius=0.2
    ),
    "tiny": PSTNetConfig(convolutions=_pyramid(((8, 8), (8, 16), (16, 16), (16, 16), (16, 16), (16, 32)), (4, 2, 1, 2, 1, 1)), radius=0.5),
}
"""`paper` is published for MSR-Action3D, in units of 300 mm: radius 0.5, doubled twice. Its 284 was a slip, says the authors' code,
but it is what the published figures are of."""


class PSTConvolution(nn.Module):
    """Spatial convolution around the same points in several frames, then a temporal one over these frames.

    Features of neighbours are multiplied by linear maps of their offsets and averaged ("multiplication" and "sum" of the authors). As
    all of it is linear but the product, the offsets can be summed against the features before any width grows: for each channel
    `middle`, `sum_n (F f_n) (D d_n) = sum_x D_x F (sum_n d_nx f_n)`.

    The norm is one over channels, with as many parameters as the published batch norm: so a clip's tokens depend on that clip alone,
    and an untrained network needs no statistics. Offsets of the first convolution get a bias, or the norm would erase their length.
    """

    def __init__(self, layer: Convolution, channels_in: int, radius: float, num_neighbours: int) -> None:
        super().__init__()
        self.layer, self.radius, self.num_neighbours = layer, radius * layer.scale, num_neighbours
        self.offset = nn.Linear(3, layer.middle, bias=channels_in == 0)
        self.feature = nn.Linear(channels_in, layer.middle, bias=False) if channels_in else None
        self.norm = nn.LayerNorm(layer.kernel.size * layer.middle)
        self.temporal = nn.Linear(layer.kernel.size * layer.middle, layer.out, bias=False)

    def forward(
        self, points: Float32[Tensor, "batch frame point 3"], features: Float[Tensor, "batch frame point channel_in"] | None
    ) -> tuple[Float32[Tensor, "batch window centroid 3"], Float[Tensor, "batch window centroid channel_out"]]:
        """Centroids, points of the frames where the kernel stands, and their features."""
        seen, batch = windows(points.shape[1], self.layer.kernel, points.device), len(points)
        size = seen.frames.shape[1]
        anchors = points[:, seen.anchors].flatten(0, 1)
        centroids = take(anchors, farthest_points(anchors, points.shape[2] // self.layer.spatial_stride))
        clouds = points[:, seen.frames].flatten(0, 2)
        queries = centroids.repeat_interleave(size, dim=0)
        neighbours = ball_query(clouds, queries, self.num_neighbours, self.radius)
        offsets = (take(clouds, neighbours) - queries.unsqueeze(2)) / self.radius
        if features is None:
            spatial = self.offset(offsets.mean(dim=2))
        else:
            spatial = self._multiply(offsets, take(features[:, seen.frames].flatten(0, 2), neighbours))
        spatial = spatial.unflatten(0, (batch, -1, size)) * seen.inside[None, :, :, None, None]
        temporal = self.temporal(functional.relu(self.norm(spatial.transpose(2, 3).flatten(3))))
        return centroids.unflatten(0, (batch, -1)), temporal

    def _multiply(
        self, offsets: Float32[Tensor, "cloud centroid neighbour 3"], features: Float[Tensor, "cloud centroid neighbour channel_in"]
    ) -> Float[Tensor, "cloud centroid middle"]:
        assert self.feature is not None
        moments = offsets.to(features).transpose(2, 3) @ features / self.num_neighbours
        spread: Tensor = self.feature(moments) * self.offset.weight.T
        return spread.sum(dim=2)


class PSTNet(Encoder):
    """Six convolutions that leave a quarter of the frames and a sixteenth of the points, which are the tokens."""

    Config = PSTNetConfig
    sizes = SIZES
    config: PSTNetConfig

    def __init__(self, config: PSTNetConfig) -> None:
        super().__init__(config)
        layers, channels = [], 0
        for layer in config.convolutions:
            layers.append(PSTConvolution(layer, channels, config.radius, config.num_neighbours))
            channels = layer.out
        self.layers = nn.ModuleList(layers)
        self.channels, self.reach = channels, config.radius * config.convolutions[0].scale

    def forward(self, points: Float32[Tensor, "batch frame point 3"]) -> Tokens:
        """Encode clips; tokens of some of the frames, frame after frame.

        Raises:
            SettingsError: fewer points a frame than one token stands for, or fewer frames than a kernel sees.
        """
        if points.shape[2] < self.config.spatial_stride:
            raise SettingsError(
                f"clips of {points.shape[2]} points a frame",
                expected=f"at least {self.config.spatial_stride}, for this size of the encoder",
                hint="raise `clips.num_points`, or choose another `encoder.size`",
            )
        centroids, features = points, None
        frame = torch.arange(points.shape[1], device=points.device)
        for layer, settings in zip(self.layers, self.config.convolutions, strict=True):
            frame = frame[windows(len(frame), settings.kernel, points.device).anchors]
            centroids, features = layer(centroids, features if features is None else functional.relu(features))
        assert features is not None
        frame = frame.repeat_interleave(centroids.shape[2]).expand(len(points), -1)
        return Tokens(features=features.flatten(1, 2), centroids=centroids.flatten(1, 2), frame=frame)
