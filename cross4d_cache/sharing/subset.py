"""Some sequences of a store as a store of their own."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

from cross4d_cache.errors import SettingsError
from cross4d_cache.join import composed, first_of, join, resembling
from cross4d_cache.sharing.parts import cut, planned, take_over
from cross4d_cache.store import Cache, CacheWriter, open_cache
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.verify import check_finished
from cross4d_cache.types import SequenceInfo, Side
from cross4d_cache.work import Remark, Stage, Work, newer, steps


def subset(
    store: Path | str,
    out: Path,
    *,
    split: str | None = None,
    protocol: str | None = None,
    actions: Sequence[str] = (),
    ids: Sequence[str] | None = None,
) -> Work[Cache]:
    """The sequences of a finished store that meet every condition, as a store at `out`.

    Raises:
        CacheError: the store cannot be used.
        OutputError: `out` cannot be written, or contains something else.
        SettingsError: as `Selection`.
    """
    cache = open_cache(store)
    yield from newer(cache.manifest, cache.storage.place)
    run = Subset(out, cache, Selection(cache, split=split, protocol=protocol, actions=actions, ids=ids))
    if run.left_out:
        yield Remark(f"note: arrays of a newer release cannot be cut here, and are left out: {', '.join(run.left_out)}")
    yield from check_finished(run.writer)
    yield from steps(Stage(name="subset", unit="part", total=run.total), run.run())
    return open_cache(out)


class Selection:
    """Which sequences are wanted: those that meet every condition that is given.

    Raises:
        SettingsError: a protocol, an action or a sequence that the store does not have, a protocol without a side, or nothing is left.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        split: str | None = None,
        protocol: str | None = None,
        actions: Sequence[str] = (),
        ids: Sequence[str] | None = None,
    ) -> None:
        dataset = cache.manifest.dataset
        if split is not None and split not in get_args(Side):
            raise SettingsError(f"unknown split {split!r}", expected=f"one of: {', '.join(get_args(Side))}", hint="choose one with `split`")
        if split in ("train", "test") and not dataset.protocols:
            raise SettingsError(f"`split` {split} of a store without train/test protocols", hint="select by `actions` or `sequences`")
        self._protocol = protocol or (dataset.protocols[0] if dataset.protocols else "")
        if protocol is not None and protocol not in dataset.protocols:
            raise SettingsError(f"no protocol {protocol!r}", expected=f"one of {', '.join(dataset.protocols)}", hint="leave out `protocol`")
        if protocol is not None and split in (None, "all"):
            raise SettingsError(
                "`protocol` without a `split` of it", expected="a side of the protocol", hint="choose `split`, or leave it out"
            )
        self._split: Side = next((side for side in get_args(Side) if side == split), "all")
        self._actions = {_action(name, dataset.action_names, {info.action for info in cache.sequences}) for name in actions}
        self._ids = None if ids is None else _known(ids, cache.sequences)
        if not any(map(self.wants, cache.sequences)):
            raise SettingsError("no sequence meets these conditions", hint="`cross4d-cache info` shows splits and actions")

    def wants(self, info: SequenceInfo) -> bool:
        """Whether a sequence meets all conditions."""
        return (
            info.is_on(self._split, self._protocol)
            and (not self._actions or info.action in self._actions)
            and (self._ids is None or info.id in self._ids)
        )


class Subset:
    """A store of the chosen sequences; parts of which all sequences are chosen are taken over as they are.

    Raises:
        OutputError: `out` cannot be written, or contains something else.
    """

    def __init__(self, out: Path, cache: Cache, selection: Selection) -> None:
        self._cache, self._chosen = cache, dict[int, list[int]]()
        parts, first = [], 0
        for number, record in enumerate(cache.manifest.parts):
            infos = cache.sequences[first : first + record.num_sequences]
            chosen = [index for index, info in enumerate(infos) if selection.wants(info)]
            if chosen:
                self._chosen[number] = chosen
                parts.append([infos[index] for index in chosen])
            first += record.num_sequences
        whole, manifest = cache.manifest.dataset.fingerprint, cache.manifest
        listing = sha256_bytes(canonical_json({"of": whole, "sequences": [info.id for part in parts for info in part]}))
        self.writer = CacheWriter(
            out,
            planned(
                manifest,
                parts,
                dataset_fingerprint=whole if sum(map(len, parts)) == len(cache.sequences) else listing,
                batch_frames=manifest.plan.batch_frames,
            ),
            cache.projection(),
        )

    @property
    def left_out(self) -> tuple[str, ...]:
        """Arrays of a newer release in parts that are cut: what their rows are of is not known here, so the new parts lack them."""
        cut = (
            self._cache.part(number)
            for number, chosen in self._chosen.items()
            if len(chosen) < self._cache.manifest.parts[number].num_sequences
        )
        return tuple(dict.fromkeys(name for part in cut for name in part.unknown_arrays))

    @property
    def total(self) -> int:
        """Parts of the new store."""
        return len(self._chosen)

    def run(self) -> Iterator[int]:
        """Write the parts; yields how many are done.

        Raises:
            CacheCorruptError: the store is damaged.
            OutputError: the disk is full or not writable.
        """
        missing, manifest = self.writer.missing(), self.writer.manifest
        for number, (source, chosen) in enumerate(self._chosen.items()):
            if number in missing:
                part = self._cache.part(source)
                if len(chosen) == len(part.infos):
                    self.writer.commit_files(number, lambda folder, part=part: take_over(part, folder, manifest.fingerprint))  # type: ignore[misc]
                else:
                    self.writer.commit(number, cut(part, chosen))
            yield number + 1
        self.writer.finish()


def read_ids(path: Path) -> list[str]:
    """The ids of a file, one a line.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}", expected="a text file with an id on every line", hint="fix it") from None


def _known(ids: Sequence[str], sequences: Sequence[SequenceInfo]) -> set[str]:
    """The ids of a list as the store spells them."""
    found = join("the list", ids, (info.id for info in sequences))
    if found.extra_rows:
        raise SettingsError(
            f"{len(found.extra_rows):,} sequences that the store does not have: {first_of(sorted(found.extra_rows))}",
            expected=f"ids such as {first_of(info.id for info in sequences[:1])}",
            hint="; ".join([*found.hints(), "fix the list"]),
        )
    return set(found.partners.values())


def _action(name: str, names: Sequence[str], present: Collection[int]) -> int:
    """The number of an action that some sequence has."""
    composed_names = [composed(known) for known in names]
    number = composed_names.index(composed(name)) if composed(name) in composed_names else int(name) if name.isdecimal() else -1
    if number in present and number >= 0:
        return number
    like = resembling([name], names).get(name)
    raise SettingsError(
        f"no sequence has action {name!r}",
        expected=f"a number, or one of {first_of(names[known] for known in sorted(present) if 0 <= known < len(names))}",
        hint=f"did you mean {like!r}?" if like else "see `cross4d-cache info`",
    )
