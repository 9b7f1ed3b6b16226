import torch
from torch.nn import functional

from cross4d_train.evaluation.knn import vote


def test_votes_against_the_slow_reference():
    generator = torch.Generator().manual_seed(0)
    known, actions = torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator) * 2
    asked = torch.randn(15, 2, 6, generator=generator)
    found = vote(known, actions, asked, 7)
    for video, guess in zip(asked, found.tolist(), strict=True):
        votes = dict.fromkeys(sorted(set(actions.tolist())), 0.0)
        for window in video:
            cosines = functional.cosine_similarity(window.unsqueeze(0), known)
            for index in cosines.argsort(descending=True)[:7].tolist():
                votes[int(actions[index])] += float(1 + cosines[index]) / 2
        assert guess == max(votes, key=lambda action: votes[action])


def test_more_neighbours_than_clips_are_all_of_them():
    known, actions = torch.eye(2), torch.tensor([4, 9])
    assert vote(known, actions, torch.tensor([[[0.1, 1.0]]]), 50).tolist() == [9]
