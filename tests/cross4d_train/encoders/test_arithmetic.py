import pytest

from cross4d_train.encoders import build_encoder
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
