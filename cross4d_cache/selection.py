"""Which sequences of a dataset a build takes."""

from collections.abc import Collection

from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import DatasetError, SettingsError
from cross4d_cache.types import SequenceInfo


def select_sequences(dataset: Dataset, *, exclude: Collection[str], limit: int | None) -> list[SequenceInfo]:
    """The sequences of a dataset without the excluded ones, the first `limit` of them.

    Damage matters only where it would be built: not in an excluded sequence, and not after the last one.

    Raises:
        DatasetError: one of the sequences is damaged, or the dataset is empty.
        SettingsError: nothing is left, or an excluded id does not exist.
    """
    intact, damaged = dataset.listing.sequences, dataset.listing.damaged
    unknown = set(exclude) - {info.id for info in intact} - {damage.error.sequence for damage in damaged}
    if unknown:
        raise SettingsError(
            f"--exclude names sequences that are not in the dataset: {', '.join(sorted(unknown))}",
            expected=f"ids such as {intact[0].id}" if intact else None,
            hint="mend or drop --exclude",
        )
    places = [place for place, info in enumerate(intact) if info.id not in exclude][:limit]
    end = places[-1] if places and len(places) == limit else len(intact)
    for damage in damaged:
        if damage.error.sequence not in exclude and damage.position <= end:
            raise _to_be_left_out(damage.error)
    if not intact:
        dataset.sequences()  # which says what was expected
    if not places:
        raise SettingsError("no sequence is left to build", hint="mend --limit or --exclude")
    return [intact[place] for place in places]


def _to_be_left_out(error: DatasetError) -> DatasetError:
    way_out = f"; or leave it out with --exclude {error.sequence}" if error.sequence else ""
    return DatasetError(error.found, expected=error.expected, hint=f"{error.hint}{way_out}; `cross4d-cache check-data` lists all damage")
