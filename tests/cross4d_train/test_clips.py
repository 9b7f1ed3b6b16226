from typing import get_args

import numpy as np
import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.types import SequenceInfo, Side
from cross4d_train.clips import ClipSettings, EpochPlan, count_sides, epoch_requests, even_requests, select_sequences
from tests.cross4d_train.conftest import make_infos

CLIPS = ClipSettings(num_frames=3, num_points=64, stride=2)


def make_plan(**changes) -> EpochPlan:
    defaults = {"clips": CLIPS, "sequences": tuple(make_infos()), "chosen": tuple(range(8)), "clips_per_sequence": 2,
                "batch_size": 6, "seed": 1, "num_epochs": 3}  # fmt: skip
    return EpochPlan(**(defaults | changes))


def test_frames_of_a_short_sequence_repeat_its_last():
    short = make_infos()[5]
    assert short.num_frames == 3
    assert CLIPS.windows(short) == 1
    assert CLIPS.frames(short, 0).tolist() == [0, 2, 2]
    assert make_plan().num_short == 1


def test_every_window_lies_in_its_sequence():
    infos = make_infos()
    for epoch in range(20):
        for request in epoch_requests(CLIPS, infos, range(12), clips_per_sequence=3, seed=0, epoch=epoch):
            info = infos[request.sequence]
            frames = CLIPS.frames(info, request.start)
            assert frames[-1] < info.num_frames
            assert info.num_frames < CLIPS.span or (np.diff(frames) == CLIPS.stride).all()


def test_an_epoch_has_every_sequence_in_an_order_of_its_own():
    plan = make_plan()
    batches = list(plan)
    epochs = [[r for batch in batches[k : k + plan.steps_per_epoch] for r in batch] for k in range(0, len(batches), plan.steps_per_epoch)]
    assert len(epochs) == 3
    for epoch in epochs:
        assert sorted(request.sequence for request in epoch) == sorted([*range(8)] * 2)
    assert [r.sequence for r in epochs[0]] != [r.sequence for r in epochs[1]]
    assert len({request.key for epoch in epochs for request in epoch}) == 48


def test_order_is_a_function_of_seed_and_epoch():
    assert list(make_plan()) == list(make_plan())
    assert list(make_plan()) != list(make_plan(seed=2))


@pytest.mark.parametrize("first_step", [0, 1, 3, 5, 8])
def test_resuming_gives_the_rest(first_step):
    assert list(make_plan(first_step=first_step)) == list(make_plan())[first_step:]
    assert len(make_plan(first_step=first_step)) == 9 - first_step


def test_devices_share_a_batch():
    whole = list(make_plan())
    ranks = [list(make_plan(rank=rank, world_size=2)) for rank in range(2)]
    for batch, first, second in zip(whole, *ranks, strict=True):
        assert sorted([*first, *second], key=lambda r: r.key) == sorted(batch, key=lambda r: r.key)
        assert first
        assert second


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_an_epoch_has_as_many_steps_and_clips_on_every_number_of_devices(world_size):
    """8 sequences of 2 clips in batches of 5 leave one clip for the last batch; shares are filled up with the first clip of a batch."""
    alone = make_plan(batch_size=5, clips_per_sequence=2)
    whole, ranks = (
        list(alone),
        [list(make_plan(batch_size=5, clips_per_sequence=2, rank=rank, world_size=world_size)) for rank in range(world_size)],
    )
    assert alone.steps_per_epoch == 4
    assert [alone.num_clips(step) for step in range(5)] == [5, 5, 5, 1, 5]
    for step, (batch, *shares) in enumerate(zip(whole, *ranks, strict=True)):
        assert len({len(share) for share in shares}) == 1
        joined = [share[place] for place in range(len(shares[0])) for share in shares]
        assert joined[: len(batch)] == batch
        assert joined[len(batch) :] == batch[:1] * (len(joined) - len(batch))
        assert alone.num_clips(step) == len(batch)


def test_even_windows_cover_the_sequence():
    infos = make_infos()
    starts = [r.start for r in even_requests(CLIPS, infos, [2], num_windows=3, seed=0)]
    assert starts == [0, 2, CLIPS.windows(infos[2]) - 1]
    assert [r.start for r in even_requests(CLIPS, infos, [5], num_windows=3, seed=0)] == [0, 0, 0]
    assert [r.start for r in even_requests(CLIPS, infos, [2], num_windows=1, seed=0)] == [2]


def test_sides_of_a_protocol():
    infos, protocols = make_infos(), ("cross-subject", "cross-view")
    assert select_sequences(infos, protocols, protocol=None, side="train") == tuple(range(8))
    assert select_sequences(infos, protocols, protocol="cross-subject", side="test") == (8, 9, 10, 11)
    assert select_sequences(infos, (), protocol=None, side="all") == tuple(range(12))
    with pytest.raises(SettingsError, match="cross-subject, cross-view"):
        select_sequences(infos, protocols, protocol="nonsense", side="train")
    with pytest.raises(SettingsError, match="no sequence is on the train side"):
        select_sequences(infos, protocols, protocol="cross-view", side="train")
    with pytest.raises(SettingsError, match="no split"):
        select_sequences(infos, (), protocol=None, side="test")


def test_pre_training_takes_what_no_protocol_places_and_nothing_that_another_one_does():
    """Six sequences: train and test of `labels`, train and test of `development` alone, two in no split."""
    splits = [{"labels": "train"}, {"labels": "test"}, {"development": "train"}, {"development": "test"}, {}, {}]
    infos = [SequenceInfo(id=str(index), num_frames=1, splits=item) for index, item in enumerate(splits)]
    chosen = {side: select_sequences(infos, ("labels", "development"), protocol=None, side=side) for side in get_args(Side)}
    assert chosen == {"train": (0,), "test": (1,), "unsplit": (4, 5), "train+unsplit": (0, 4, 5), "all": (0, 1, 2, 3, 4, 5)}
    assert select_sequences(infos, ("labels", "development"), protocol="development", side="train+unsplit") == (2, 4, 5)
    assert select_sequences(infos[4:], (), protocol=None, side="train+unsplit") == (0, 1)
    assert count_sides(infos, "labels") == {"train": 1, "test": 1, "elsewhere": 2, "unsplit": 2}
