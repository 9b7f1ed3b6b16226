import pytest
import torch
from torch import nn

from cross4d_train.encoders import build_encoder
from cross4d_train.encoders.grouping import farthest_points
from cross4d_train.encoders.pstnet import HALVING, KEEPING, POINT, Convolution, PSTConvolution
from cross4d_train.initialise import build_seeded
from tests.cross4d_train.encoders.contract import BuiltInEncoderContract


class TestPSTNet(BuiltInEncoderContract):
    name = "pstnet"


def test_paper_size_has_the_parameters_and_tokens_of_the_paper():
    encoder = build_encoder("pstnet", "paper")
    head = nn.Linear(2048, 20)
    count = sum(parameter.numel() for parameter in [*encoder.parameters(), *head.parameters()])
    assert count == pytest.approx(8.26e6, rel=1e-3)
    with torch.no_grad():
        tokens = encoder(torch.randn(1, 24, 64, 3, generator=torch.Generator().manual_seed(0)))
    assert tokens.features.shape == (1, 6 * 4, 2048)
    assert tokens.frame[0].unique().tolist() == [0, 4, 8, 12, 16, 20]


def reference(layer: PSTConvolution, points: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
    """As published: neighbour by neighbour, every linear map after grouping; added frames are zero."""
    kernel, found = layer.layer.kernel, []
    reach = kernel.size // 2
    for clip in range(len(points)):
        frames = []
        for anchor in range(reach - kernel.padding[0], points.shape[1] + kernel.padding[1] - reach, kernel.stride):
            chosen = farthest_points(points[clip, anchor][None], points.shape[2] // layer.layer.spatial_stride)[0]
            tokens = []
            for centre in points[clip, anchor, chosen]:
                spatial = []
                for frame in range(anchor - reach, anchor + reach + 1):
                    if not 0 <= frame < points.shape[1]:
                        spatial.append(torch.zeros(layer.layer.middle))
                        continue
                    distances = (points[clip, frame] - centre).norm(dim=-1)
                    ball = (distances <= layer.radius).nonzero().flatten().tolist() or [int(distances.argmin())]
                    ball = (ball + [ball[0]] * layer.num_neighbours)[: layer.num_neighbours]
                    values = []
                    for point in ball:
                        value = layer.offset((points[clip, frame, point] - centre) / layer.radius)
                        values.append(value if features is None else value * layer.feature(features[clip, frame, point]))
                    spatial.append(torch.stack(values).mean(dim=0))
                tokens.append(layer.temporal(torch.relu(layer.norm(torch.cat(spatial)))))
            frames.append(torch.stack(tokens))
        found.append(torch.stack(frames))
    return torch.stack(found)


@pytest.mark.parametrize(("kernel", "channels"), [(POINT, 0), (POINT, 5), (HALVING, 5), (KEEPING, 5)])
def test_convolution_matches_the_reference(kernel, channels):
    layer = build_seeded(
        lambda: PSTConvolution(Convolution(middle=6, out=7, kernel=kernel, spatial_stride=2, scale=2), channels, 0.3, 4), 0
    )
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, 4, 12, 3, generator=generator)
    features = torch.randn(2, 4, 12, channels, generator=generator) if channels else None
    centroids, found = layer(points, features)
    assert torch.allclose(found, reference(layer, points, features), atol=1e-5)
    assert centroids.shape == (*found.shape[:3], 3)
