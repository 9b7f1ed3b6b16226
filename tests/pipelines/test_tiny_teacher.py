"""Training of the embedded teacher: its batches, its loss, and that both can be had again."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cross4d_cache.rendering.camera import place_cameras
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.teachers.tiny.vit import IMAGE_SIZE, PATCH_SIZE, TinyViT, cut_patches
from pipelines import tiny_teacher
from pipelines.tiny_teacher import MATCHES, NEGATIVE_METRES, RENDER, STREAM, TEMPERATURE, Pairs, contrast, draw_pairs, draw_views, train

SIDE = IMAGE_SIZE // PATCH_SIZE


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return draw_pairs(0, 3, 3)


@pytest.fixture
def model() -> TinyViT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyViT()


def same(one: Pairs, other: Pairs) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "matches", "rest"))


def test_a_batch_is_a_pure_function_of_seed_and_number(pairs: Pairs) -> None:
    np.random.default_rng(0).random()
    torch.rand(1)
    assert same(draw_pairs(0, 3, 3), pairs)
    assert same(draw_pairs(0, 3, 1), Pairs(images=pairs.images[:2], matches=pairs.matches[:1], rest=pairs.rest[:1]))
    assert not same(draw_pairs(0, 4, 3), pairs)
    assert not same(draw_pairs(1, 3, 3), pairs)


def test_matches_lie_in_patches_that_hold_the_subject(pairs: Pairs) -> None:
    assert pairs.images.shape == (6, IMAGE_SIZE, IMAGE_SIZE)
    assert pairs.matches.shape == (3, MATCHES, 2)
    held = (cut_patches(pairs.images) != 0).any(dim=-1).view(3, 2, SIDE**2)
    for view in (0, 1):
        assert held[:, view].gather(1, pairs.matches[..., view]).all()
    assert (pairs.matches[..., 0] != pairs.matches[..., 1]).any()


def test_both_patches_of_a_match_show_the_same_place_of_the_body(pairs: Pairs) -> None:
    """Every point is projected again, by the cameras' own matrices; a match needs a surface id that both of its patches hold."""
    attempt = 0
    for number in range(3):
        images = torch.zeros(0)
        while not torch.equal(images, pairs.images[2 * number : 2 * number + 2]):  # a body that shows too little was passed over
            body, points, frames, ids = draw_views(np.random.default_rng([STREAM, 0, 3, attempt]))
            views = place_cameras(points, np.searchsorted(frames, np.arange(3)).astype(np.int64), RENDER)
            images = render(
                torch.from_numpy(points), torch.from_numpy(frames), batch_cameras([views, views], torch.device("cpu")), RENDER
            ).image
            attempt += 1
        camera = views.cameras[0]
        local = points @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
        column, row = ((local @ camera.intrinsics.T)[:, :2] / local[:, 2:] // PATCH_SIZE).astype(int).T
        places = list(zip(frames.tolist(), (row * SIDE + column).tolist(), strict=True))
        ids_of: dict[tuple[int, int], set[int]] = {place: set() for place in places}
        for place, surface_id in zip(places, ids.tolist(), strict=True):
            ids_of[place].add(surface_id)
        for (first, second), rest in zip(pairs.matches[number].tolist(), pairs.rest[number].numpy(), strict=True):
            common = ids_of.get((0, first), set()) & ids_of.get((1, second), set())
            assert common
            assert np.abs(body.rest_positions(np.array(sorted(common))) - rest).max(axis=1).min() < 1e-6


def allowed(pairs: Pairs) -> list[list[list[int]]]:
    """For every match of every body itself and the matches that are far enough away at rest."""
    return [
        [[j for j in range(MATCHES) if i == j or math.dist(rest[i], rest[j]) >= NEGATIVE_METRES] for i in range(MATCHES)]
        for rest in pairs.rest.tolist()
    ]


def test_contrast_is_that_of_a_plain_loop(model: TinyViT, pairs: Pairs) -> None:
    """Image by image, without any padding to the fullest one."""
    tokens = []
    with torch.no_grad():
        for patches in cut_patches(pairs.images):
            places = (patches != 0).any(dim=-1).nonzero().squeeze(1)
            found = model(patches[places][None], places[None], torch.zeros(1, len(places), dtype=torch.bool))[0]
            tokens.append(torch.full((SIDE**2, found.shape[1]), math.nan).index_copy(0, places, functional.normalize(found, dim=-1)))
        loss = contrast(model, pairs).item()
    terms = []
    for body, candidates in enumerate(allowed(pairs)):
        sides = [tokens[2 * body + view][pairs.matches[body, :, view]] for view in (0, 1)]
        for one, other in (sides, sides[::-1]):
            terms += [
                float(torch.logsumexp(other[those] @ one[match] / TEMPERATURE, 0) - other[match] @ one[match] / TEMPERATURE)
                for match, those in enumerate(candidates)
            ]
    assert loss == pytest.approx(np.mean(terms), abs=1e-3)


def test_a_model_that_knows_nothing_guesses_among_the_candidates(model: TinyViT, pairs: Pairs) -> None:
    guessing = np.mean([math.log(len(those)) for body in allowed(pairs) for those in body])
    assert 3 < guessing < math.log(MATCHES)
    loss = contrast(model, pairs)
    assert loss.item() == pytest.approx(guessing, abs=1)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        model.encoder.norm.weight.zero_()  # every token is the same now
        model.encoder.norm.bias.fill_(1)
    assert contrast(model, pairs).item() == pytest.approx(guessing, abs=1e-4)


def test_training_repeats_with_and_without_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"steps": 2, "bodies": 2, "learning_rate": 1e-3, "seed": 4}
    model, losses = train(**options)
    monkeypatch.setattr(tiny_teacher, "DataLoader", lambda dataset, **_: dataset)
    again, same_losses = train(**options)
    assert losses == same_losses
    assert len(losses) == 2
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), again.parameters(), strict=True))
    assert train(**(options | {"seed": 5}))[1][0] != losses[0]
