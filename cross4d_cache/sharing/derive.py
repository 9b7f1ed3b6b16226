"""Controls that are derived from the store they belong to, without the teacher."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from cross4d_cache.errors import SettingsError
from cross4d_cache.sharing.parts import put_array, take_over
from cross4d_cache.store import Cache, CacheManifest, CacheWriter, open_cache
from cross4d_cache.store.controls import shuffle_frame
from cross4d_cache.store.part_reader import Part
from cross4d_cache.store.verify import check_finished
from cross4d_cache.types import CORRESPONDENCE
from cross4d_cache.work import Stage, Work, newer, steps

SLOTS = "patch_slot"
BUILT = "zbuffer"
"""Correspondence of the stores that others are derived from."""
DERIVED = "shuffled"
"""Correspondence of those that can be derived."""


def derive(store: Path | str, out: Path, correspondence: str = DERIVED) -> Work[Cache]:
    """From the finished store at a place the one that the same build would have made with another correspondence; returns it, open.

    Shuffled points have the slots of their own frame and view in another order, and everything else is equal: the other files become
    hard links where the file system allows it, else copies. A store that was begun at `out` is resumed; of a finished one, what is
    damaged is made anew.

    Raises:
        CacheCorruptError: the store is damaged.
        CacheMismatchError: `out` contains a store with other settings.
        OutputError: `out` cannot be written, or contains something else.
        SettingsError: no such correspondence, or one that cannot be derived from this store.
    """
    _check(correspondence)
    cache = open_cache(store)
    yield from newer(cache.manifest, cache.storage.place)
    if cache.manifest.correspondence != BUILT:
        raise SettingsError(
            f"{cache.storage.place} is a control itself, of correspondence {cache.manifest.correspondence}",
            expected=f"a store of correspondence {BUILT}",
            hint="derive from the store that this control belongs to",
        )
    if not cache.manifest.teacher.makes_targets:
        raise SettingsError(f"{cache.storage.place} has no targets", expected="a store that was built with a teacher", hint="build one")
    manifest = cache.manifest.model_copy(update={"complete": False, "parts": (), "correspondence": correspondence})
    writer = CacheWriter(out, manifest, cache.projection())
    total = sum(part.bytes for part in cache.manifest.parts)
    yield from check_finished(writer)
    yield from steps(Stage(name="derive", unit="B", total=total), _make_parts(cache, writer))
    writer.finish()
    return open_cache(out)


def _check(correspondence: str) -> None:
    """Refuse what cannot be derived.

    Raises:
        SettingsError: it is no correspondence, or one that takes features which a store does not contain.
    """
    if correspondence == DERIVED:
        return
    if correspondence == BUILT or not re.fullmatch(CORRESPONDENCE, correspondence):
        raise SettingsError(f"no control {correspondence!r} can be derived", expected=DERIVED, hint="pass it with `correspondence`")
    raise SettingsError(
        f"correspondence {correspondence} cannot be derived: its points get features of patches that no point lies in, and a store contains"
        " those that are hit alone",
        expected=DERIVED,
        hint=f"build it: the command that built the store, with `correspondence` {correspondence} and a folder of its own",
    )


def _make_parts(cache: Cache, writer: CacheWriter) -> Iterator[int]:
    """Make the parts that are missing; yields how many bytes of all are done."""
    missing, done = writer.missing(), 0
    for number, record in enumerate(cache.manifest.parts):
        if number in missing:
            writer.commit_files(number, partial(_write_part, cache.part(number), writer.manifest))
        done += record.bytes
        yield done


def _write_part(part: Part, manifest: CacheManifest, folder: Path) -> None:
    take_over(part, folder, manifest.fingerprint, without=SLOTS)
    put_array(folder, SLOTS, shuffled_slots(part, manifest.seed))


def shuffled_slots(part: Part, seed: int) -> UInt16[np.ndarray, "point view"]:
    """The slots of all points of a part, permuted within each frame and view.

    Raises:
        CacheCorruptError: bytes that were read differ from the ones that were written.
    """
    frames = [(info.id, frame) for info in part.infos for frame in range(info.num_frames)]
    slots = np.split(part.rows(SLOTS, 0, int(part.point_offsets[-1])), part.point_offsets[1:-1])
    return np.concatenate([shuffle_frame(piece, name, frame, seed) for piece, (name, frame) in zip(slots, frames, strict=True)])
