"""Several stores as one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from cross4d_cache.errors import CacheMismatchError
from cross4d_cache.join import composed
from cross4d_cache.sharing.parts import MIXED_BATCHES, planned, take_over
from cross4d_cache.store import Cache, CacheManifest, CacheWriter, open_cache
from cross4d_cache.store.digest import canonical_json, sha256_bytes
from cross4d_cache.store.part_reader import PartFiles
from cross4d_cache.store.verify import check_finished
from cross4d_cache.work import Stage, Work, newer, steps

SHOWN = 20
"""Differences, or sequences, that a message lists."""


def merge(stores: Sequence[Path | str], out: Path) -> Work[Cache]:
    """The union of some finished stores at `out`, resumed if it was interrupted; what is damaged of one that is there is made again.

    Raises:
        CacheError: a store cannot be used.
        CacheMismatchError, OutputError: as `Merge`.
    """
    caches = [open_cache(store) for store in stores]
    for cache in caches:
        yield from newer(cache.manifest, cache.storage.place)
    run = Merge(out, caches)
    yield from check_finished(run.writer)
    yield from steps(Stage(name="merge", unit="B", total=run.total), run.run())
    return open_cache(out)


class Merge:
    """The union of the parts of some stores of the same settings, in a new one; a part that several hold is taken once.

    Raises:
        CacheMismatchError: the settings differ, or parts that differ hold the same sequence.
        OutputError: `out` cannot be written, or contains something else.
    """

    def __init__(self, out: Path, caches: Sequence[Cache]) -> None:
        self._check_settings(caches)
        self._parts = self._union(caches)
        manifests = [cache.manifest for cache in caches]
        if len({manifest.fingerprint for manifest in manifests}) > 1:  # some said the same in the words of release 0.1
            manifests = [manifest.renewed() for manifest in manifests]
        listings = sorted({manifest.dataset.fingerprint for manifest in manifests})
        batches = {manifest.plan.batch_frames for manifest in manifests}
        manifest = planned(
            _described(manifests),
            [part.sequences for part in self._parts],
            dataset_fingerprint=listings[0] if len(listings) == 1 else sha256_bytes(canonical_json(listings)),
            batch_frames=batches.pop() if len(batches) == 1 else MIXED_BATCHES,
        )
        self.writer = CacheWriter(out, manifest, caches[0].projection())

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.record.bytes for part in self._parts)

    def run(self) -> Iterator[int]:
        """Take the parts over; yields how many bytes are done.

        Raises:
            CacheCorruptError: a store is damaged.
            OutputError: the disk is full or not writable.
        """
        missing, done, fingerprint = self.writer.missing(), 0, self.writer.manifest.fingerprint
        for number, part in enumerate(self._parts):
            if number in missing:
                self.writer.commit_files(number, lambda folder, part=part: take_over(part, folder, fingerprint))  # type: ignore[misc]
            done += part.record.bytes
            yield done
        self.writer.finish()

    @staticmethod
    def _check_settings(caches: Sequence[Cache]) -> None:
        first, *others = caches
        for other in others:
            differences = first.manifest.setting_differences(other.manifest)
            if differences:
                raise CacheMismatchError(
                    f"{first.storage.place} and {other.storage.place} differ in {len(differences)} settings:",
                    details=differences[:SHOWN],
                    expected="stores that were built with the same settings, of the same dataset and teacher",
                    hint="build one of them again with the other's settings",
                )

    @staticmethod
    def _union(caches: Sequence[Cache]) -> list[PartFiles]:
        parts: dict[str, PartFiles] = {}
        holders: dict[str, str] = {}
        for cache in caches:
            for record in cache.manifest.parts:
                part = PartFiles(cache.storage, record)
                if part.content in parts:
                    continue
                twice = [info.id for info in part.sequences if composed(info.id) in holders]
                if twice:
                    other = holders[composed(twice[0])]
                    raise CacheMismatchError(
                        f"{other} and {cache.storage.place} both hold {', '.join(twice[:SHOWN])}, in parts that differ",
                        expected="stores of different sequences, or with the very same parts",
                        hint="leave them out of one: `cross4d-cache subset --sequences FILE`",
                    )
                holders |= {composed(info.id): cache.storage.place for info in part.sequences}
                parts[part.content] = part
        return list(parts.values())


def _described(manifests: Sequence[CacheManifest]) -> CacheManifest:
    """The first of some manifests, described by what all of them say alike."""
    first, *others = (manifest.plan.description.items() for manifest in manifests)
    shared = [item for item in first if all(item in other for other in others)]
    return manifests[0].model_copy(update={"plan": manifests[0].plan.model_copy(update={"description": dict(shared)})})
