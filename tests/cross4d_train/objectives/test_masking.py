import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cross4d_train.objectives.masking import hide_tubes


def make(seed, num_frames, num_points, share, *, spread=0.4):
    points = torch.randn(2, num_frames, num_points, 3, generator=torch.Generator().manual_seed(seed)) * spread
    return points, hide_tubes(points, share=share, generator=torch.Generator().manual_seed(seed + 1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), num_frames=st.integers(1, 11), num_points=st.integers(8, 80), share=st.floats(0, 1))
def test_context_holds_visible_points_only(seed, num_frames, num_points, share):
    """Point by point; what is visible stays in its place, what is hidden becomes a visible point of the same frame."""
    points, masking = make(seed, num_frames, num_points, share)
    assert masking.context.shape == points.shape
    for clip in range(2):
        for frame in range(num_frames):
            segment = min(frame // 3, max(num_frames // 3, 1) - 1)
            assert masking.segments[frame] == segment
            centres = masking.centres[clip, segment]
            hidden = [bool(masking.hidden[clip, segment, (centres - point).norm(dim=-1).argmin()]) for point in points[clip, frame]]
            visible = points[clip, frame][~torch.tensor(hidden)]
            for place, is_hidden in enumerate(hidden):
                point = masking.context[clip, frame, place]
                if is_hidden and len(visible):
                    assert (visible == point).all(dim=-1).any()
                else:
                    assert torch.equal(point, points[clip, frame, place])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), num_frames=st.integers(1, 11), num_points=st.integers(8, 400), share=st.floats(0, 1))
def test_every_segment_hides_the_same_number_of_tubes_never_all(seed, num_frames, num_points, share):
    points, masking = make(seed, num_frames, num_points, share)
    counts = masking.hidden.sum(dim=-1)
    num_tubes = masking.hidden.shape[-1]
    assert num_tubes == max(4, num_points // 32)
    assert (counts == min(max(round(share * num_tubes), 1), num_tubes - 1)).all()
    middles = points[:, masking.middles]
    assert (masking.centres.unsqueeze(3) == middles.unsqueeze(2)).all(dim=-1).any(dim=-1).all()


def test_hidden_centres_are_listed_with_their_frames_and_are_hidden():
    _, masking = make(0, 6, 200, 0.5)
    assert masking.hidden_centres.shape == (2, 6, 3)
    assert masking.hidden_frames.tolist() == [[1, 1, 1, 4, 4, 4]] * 2
    assert masking.hides(masking.hidden_centres, masking.hidden_frames).all()
    everything = masking.centres.flatten(1, 2), masking.middles.repeat_interleave(6).expand(2, -1)
    assert masking.hides(*everything).sum() == 12


def test_other_draws_hide_other_tubes():
    points, masking = make(0, 6, 200, 0.5)
    other = hide_tubes(points, share=0.5, generator=torch.Generator().manual_seed(77))
    again = hide_tubes(points, share=0.5, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(other.hidden, masking.hidden)
    assert torch.equal(again.hidden, masking.hidden)
    assert torch.equal(again.context, masking.context)


def test_a_frame_without_a_visible_point_stays_whole():
    points = torch.randn(1, 3, 64, 3, generator=torch.Generator().manual_seed(0))
    points[:, 0] = points[:, 1, :1]  # all points of the first frame lie in one tube
    for seed in range(20):
        masking = hide_tubes(points, share=0.75, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(masking.context[0, 0], points[0, 0])


def test_replacements_are_drawn_evenly():
    points = torch.randn(1, 1, 4000, 3, generator=torch.Generator().manual_seed(0))
    masking = hide_tubes(points, share=0.5, generator=torch.Generator().manual_seed(0))
    distinct = masking.context.unique(dim=2).shape[2]
    hidden = int((masking.context != points).any(dim=-1).sum())
    expected = 4000 - hidden
    assert distinct == pytest.approx(expected, abs=2)
    counts = torch.unique(masking.context[0, 0], dim=0, return_counts=True)[1].float()
    assert counts.var().item() == pytest.approx(hidden / expected, rel=0.2)  # as Poisson counts have
