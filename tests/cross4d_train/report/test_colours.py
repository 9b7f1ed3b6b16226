import torch

from cross4d_train.report.colours import principal_colours


def test_equal_features_get_equal_colours_and_groups_differ() -> None:
    group = torch.eye(4).repeat_interleave(10, dim=0)
    colours = principal_colours(group + 1e-4 * torch.rand(40, 4, generator=torch.Generator().manual_seed(0)))
    assert ((colours >= 0) & (colours <= 1)).all()
    means = colours.reshape(4, 10, 3).mean(dim=1)
    assert (colours.reshape(4, 10, 3).std(dim=1) < 0.01).all()
    assert (torch.pdist(means) > 0.3).all()


def test_colours_do_not_depend_on_the_sign_of_components() -> None:
    features = torch.rand(30, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(principal_colours(features), principal_colours(features.flip(0)).flip(0), atol=1e-4, rtol=1e-4)
