import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cross4d_train.encoders import ENCODERS, build_encoder, find_config, outline_encoder
from cross4d_train.encoders.arithmetic import count_cost


def test_cost_of_point4d_counted_by_hand():
    """The tiny size: 16 centroids of 8 neighbours, 4 of 4, one block of 32 channels, on 3 frames of 40 points."""
    cost = count_cost(build_encoder("point4d", "tiny"), num_frames=3, num_points=40)
    fine = 16 * 8 * (3 * 8 + 8 * 16)
    coarse = 4 * 4 * ((3 + 16) * 16 + 16 * 32)
    tokens = 12
    block = tokens * (32 * 96 + 32 * 32 + 2 * 32 * 128)
    position = tokens * (4 * 32 + 32 * 32)
    assert cost.tokens == tokens
    assert cost.channels == 32
    assert cost.linear_flops == 2 * (3 * (fine + coarse) + block + position)
    assert cost.product_flops == 2 * 2 * tokens * tokens * 32


@pytest.mark.parametrize(
    ("name", "parameters", "linear", "with_products"),
    [("point4d", 3.28e6, 11.5e9, None), ("p4transformer", 41.99e6, None, 77.1e9)],
)
def test_paper_sizes_cost_what_the_paper_says(name, parameters, linear, with_products):
    """The published figure of Point4D fits without attention products, that of P4Transformer with them."""
    cost = count_cost(build_encoder(name, "paper"), num_frames=24, num_points=2048)
    assert cost.parameters == pytest.approx(parameters, rel=0.01)
    if linear is not None:
        assert cost.linear_flops == pytest.approx(linear, rel=0.01)
    if with_products is not None:
        assert cost.linear_flops + cost.product_flops == pytest.approx(with_products, rel=0.005)


@pytest.mark.parametrize("name", ENCODERS.built_in)
def test_counting_without_numbers_is_counting_a_run(name):
    """The slow twin: the same encoder with weights, on points."""
    encoder = build_encoder(name, "tiny")
    points = torch.randn(1, 6, 128, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tokens = encoder(points)
    counts = {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}
    cost = count_cost(outline_encoder(*find_config(name, "tiny", {})), num_frames=6, num_points=128)
    assert cost == count_cost(encoder, num_frames=6, num_points=128)
    assert cost.linear_flops == counts.get("aten.addmm", 0) + counts.get("aten.mm", 0)
    assert (cost.product_flops, cost.tokens) == (counts.get("aten.bmm", 0), tokens.frame.shape[1])
    assert all(parameter.device.type == "cpu" for parameter in encoder.parameters())


def test_the_largest_encoders_are_counted_at_once():
    """A forward pass of these takes half a minute on two cores: were one run, this would be noticed."""
    for name, size in (("p4transformer", "ntu"), ("pstnet", "paper")):
        assert count_cost(outline_encoder(*find_config(name, size, {})), num_frames=240, num_points=2048).tokens > 7000
