"""Which sequences of a dataset a build takes, and what a user should know of the others."""

from collections import Counter
from collections.abc import Collection, Iterator

from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.join import count_of, first_of, join
from cross4d_cache.types import SequenceInfo


def select_sequences(dataset: Dataset, *, exclude: Collection[str], limit: int | None) -> list[SequenceInfo]:
    """The sequences of a dataset without the excluded ones, the first `limit` of them.

    Damage matters only where it would be built: not in an excluded sequence, and not after the last one.

    Raises:
        DatasetError: two sequences have one id, one is damaged, the dataset is empty, or a list of labels speaks of none of its sequences.
        SettingsError: nothing is left, or an excluded id does not exist.
    """
    intact, damaged = dataset.listing.sequences, dataset.listing.damaged
    twice = [name for name, count in Counter(info.id for info in intact).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{count_of(twice, 'id')} of more than one sequence each: {first_of(twice)}",
            expected="an id for every sequence that no other has",
            hint=f"correct the reader of dataset {dataset.name}",
        )
    named = join("`exclude`", dict.fromkeys(exclude), dataset.listing.ids)
    if named.extra_rows:
        raise SettingsError(
            f"`exclude` names sequences that are not in the dataset: {first_of(sorted(named.extra_rows))}",
            expected=f"ids such as {intact[0].id}" if intact else None,
            hint="; ".join([*named.hints(), "fix or drop `exclude`"]),
        )
    excluded = set(named.partners.values())
    for item in dataset.joins():
        item.check()
    places = [place for place, info in enumerate(intact) if info.id not in excluded][:limit]
    end = places[-1] if places and len(places) == limit else len(intact)
    for damage in damaged:
        if damage.error.sequence not in excluded and damage.position <= end:
            raise _to_be_left_out(damage.error)
    if not intact:
        dataset.sequences()  # which says what was expected
    if not places:
        raise SettingsError("no sequence is left to build", hint="fix `limit` or `exclude`")
    return [intact[place] for place in places]


def remarks(dataset: Dataset) -> Iterator[str]:
    """What a user should know of a dataset before it is built, a line each: what found no partner, and what is not read."""
    for item in dataset.joins():
        yield from item.lines()
    yield from dataset.notes()


def _to_be_left_out(error: DatasetError) -> DatasetError:
    way_out = f"; or leave it out with `exclude` {error.sequence}" if error.sequence else ""
    return DatasetError(error.found, expected=error.expected, hint=f"{error.hint}{way_out}; `cross4d-cache check-data` lists all damage")
