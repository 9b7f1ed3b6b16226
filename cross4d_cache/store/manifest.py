"""The manifest: what a store holds and everything that decided its numbers (docs/cache_format.md)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from cross4d_cache.durable import write_durably
from cross4d_cache.errors import CacheFormatError
from cross4d_cache.record import NewerRecordError, Record, RecordError, added, compare
from cross4d_cache.store.digest import Sha256, canonical_json, sha256_bytes
from cross4d_cache.store.storage import HINT, Storage, absent, open_storage
from cross4d_cache.types import CORRESPONDENCE, Count, RenderSettings, Size, TeacherSpec

FORMAT_VERSION: Literal[1] = 1
METADATA_FILE = "zarr.json"
MOST_MANIFEST_BYTES = 2**26
ATTRIBUTE = "cross4d"
NAMES = ("protocols", "action_names", "part_names")
"""Fields of `dataset` that say how sides and classes are called, and decide no number."""

DESCRIBES = ("frame_rate",)
"""Options of readers that describe the data. Release 0.1 recorded them, and those that locate, among the ones that decide numbers."""
LOCATES = {"folder": ("labels",), "ntu_rgbd": ("skeletons",)}
"""Options that say where something lay on the machine of a build, by dataset, as release 0.1 recorded them."""
MOST_PATCHES = 65_535
"""Of all views of a frame."""
PART_NAME = re.compile("[0-9]{5,12}")
"""Folders of parts."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class DatasetRecord(Record):
    """Where the sequences came from. `options` are those that decide numbers, `fingerprint` is of the raw data's listing."""

    name: str
    version: str
    options: dict[str, Any]
    fingerprint: str
    protocols: tuple[str, ...]
    action_names: tuple[str, ...]
    part_names: tuple[str, ...]


class ProjectionRecord(Record):
    """How teacher channels became target channels. `sha256` is of the stored matrix, None without one."""

    kind: Literal["random", "pca", "none"]
    seed: Seed
    channels: Size
    sha256: str | None


class PlanRecord(Record):
    """How the build was cut into parts and batches; `sha256` is of the sequence ids of every part.

    Batches are recorded because devices may round differently at another batch size. `description` are options of the reader that
    describe the data and decide no number; they are here because what the dataset's record says is part of the fingerprint.
    """

    batch_frames: Count
    num_parts: Count
    num_sequences: Count
    num_frames: Count
    sha256: str
    description: dict[str, Any] = added({})


class PartRecord(Record):
    """One committed part. `sha256` is of its file list, which holds the hash of each of its files."""

    name: str = Field(pattern=f"^{PART_NAME.pattern}$")
    num_sequences: Count
    num_frames: Count
    num_points: Count
    num_visible: Count
    num_rows: Count
    bytes: Count
    sha256: Sha256


class CacheManifest(Record):
    """The attributes of a store's root group.

    A store that is being built has `complete=False` and no parts. `points_per_frame` is the most points kept of a frame; which
    ones is decided by `seed`, as are the draws of a shuffled or random `correspondence` and the frames
    that a PCA is fitted on.
    """

    format_version: Literal[1] = FORMAT_VERSION
    complete: bool
    dataset: DatasetRecord
    points_per_frame: Count
    seed: Seed
    render: RenderSettings
    correspondence: str = Field(default="zbuffer", pattern=f"^({CORRESPONDENCE})$")
    teacher: TeacherSpec
    projection: ProjectionRecord
    plan: PlanRecord
    software: dict[str, str]
    parts: tuple[PartRecord, ...] = ()

    @property
    def reader_options(self) -> dict[str, Any]:
        """The options that the sequences were read with, as far as they are recorded."""
        return {**self.dataset.options, **self.plan.description}

    @property
    def views(self) -> int:
        """Cameras per sequence."""
        return self.render.views

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the numbers of a sequence; stores merge only if theirs agree."""
        return sha256_bytes(canonical_json(self._deciding()))

    def _deciding(self) -> dict[str, Any]:
        """What was recorded, less what never decides numbers; so a later field is within, unless it lies in one of these."""
        record = self.model_dump(mode="json", exclude={"complete", "software", "parts", "plan"})
        for key in ("fingerprint", *NAMES):
            del record["dataset"][key]
        for key in ("weights", "revision"):  # where the weights were found; their hash stays
            del record["teacher"][key]
        return record

    def renewed(self) -> "CacheManifest":
        """The same store with its options recorded as this release does it, so that stores of release 0.1 can be compared with others."""
        options, description = dict(self.dataset.options), dict(self.plan.description)
        for name in LOCATES.get(self.dataset.name, ()):
            options.pop(name, None)
        description |= {name: options.pop(name) for name in DESCRIBES if name in options}
        return self.model_copy(
            update={
                "dataset": self.dataset.model_copy(update={"options": options}),
                "plan": self.plan.model_copy(update={"description": description}),
            }
        )

    def _planned(self) -> dict[str, Any]:
        """All that a build must agree on to resume another's work."""
        return {**self._deciding(), "dataset": self.dataset.model_dump(mode="json"), "plan": self.plan.model_dump(mode="json")}

    def _mergeable(self) -> dict[str, Any]:
        """All that stores must agree on to become one. What a newer release says of a plan is compared, as its meaning is not known."""
        plan = self.plan.model_dump(mode="json", exclude=set(PlanRecord.model_fields))
        return {**self._deciding(), "names": self.dataset.model_dump(mode="json", include=set(NAMES)), "plan": plan}

    def setting_differences(self, other: "CacheManifest") -> list[str]:
        """Settings that decide numbers, and names of labels, in which two stores differ, one line each; empty if they merge."""
        return compare(self.renewed()._mergeable(), other.renewed()._mergeable())

    def differences(self, other: "CacheManifest") -> list[str]:
        """Settings in which two builds differ, one line each; empty if one may resume the other's work."""
        return compare(self.renewed()._planned(), other.renewed()._planned())

    def _contradictions(self) -> Iterator[str]:
        """Settings that cannot be together."""
        projection, teacher, num_slots = self.projection, self.teacher, self.views * self.teacher.num_patches
        if (projection.kind == "none") != (projection.sha256 is None):
            yield f"projection {projection.kind} with a matrix of hash {projection.sha256}"
        if projection.kind == "none" and projection.channels != teacher.channels:
            yield f"{teacher.channels} channels, not projected, of which {projection.channels} are stored"
        if num_slots > MOST_PATCHES:
            yield f"{num_slots} patches of all views, where a slot tells {MOST_PATCHES} apart"

    @property
    def checksum(self) -> str:
        """Hash of the whole manifest."""
        return sha256_bytes(canonical_json(self._record()))

    def _record(self) -> dict[str, Any]:
        return {**self.model_dump(mode="json"), "fingerprint": self.fingerprint}

    def write(self, store: Path) -> None:
        """Replace the root metadata of `store` atomically."""
        attributes = {ATTRIBUTE: {**self._record(), "checksum": self.checksum}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_durably(store / METADATA_FILE, json.dumps(group, indent=1, sort_keys=True, allow_nan=False).encode())

    @classmethod
    def read(cls, store: Path) -> "CacheManifest":
        """Read and validate the manifest of a store in a folder, finished or not.

        Raises:
            CacheFormatError: no store there, a format version this release does not know, or a malformed manifest.
        """
        return read_manifest(open_storage(store))

    @classmethod
    def parse(cls, data: bytes, place: str) -> "CacheManifest":
        """Validate the root metadata of the store at `place`.

        Raises:
            CacheFormatError: no manifest, one of a format version this release does not know, or a malformed one.
        """
        hint = "copy or build the store again"
        try:
            group = json.loads(data)
            attributes = group.pop("attributes").pop(ATTRIBUTE)
            version = attributes.get("format_version")
            if group != {"zarr_format": 3, "node_type": "group"}:
                raise ValueError("no group")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _no_store(place) from None
        if version != FORMAT_VERSION or version is True:
            raise CacheFormatError(
                f"{place} has cache format version {str(version)[:40]}",
                expected=f"version {FORMAT_VERSION}, the one this release reads",
                hint="update cross4d, or build the store again",
            )
        checksum = attributes.pop("checksum", None)
        try:
            intact = checksum == sha256_bytes(canonical_json(attributes))
            fingerprint = attributes.pop("fingerprint", None)
            manifest = cls.from_json(canonical_json(attributes))
        except NewerRecordError as error:
            raise CacheFormatError(f"{place} was {error.found}", expected="fields that this release knows", hint="update cross4d") from None
        except RecordError as error:
            raise CacheFormatError(f"{place}: manifest {error}", hint=hint) from None
        except (ValueError, RecursionError) as error:
            raise CacheFormatError(f"{place}: the manifest cannot be checked: {str(error)[:200]}", hint=hint) from None
        if not intact or manifest.fingerprint != fingerprint:
            raise CacheFormatError(
                f"{place}: the manifest's {'fingerprint does not belong to its settings' if intact else 'checksum does not fit it'}",
                hint="the manifest was edited or damaged; copy or build the store again",
            )
        plan, parts = manifest.plan, manifest.parts
        held = [len(parts), sum(part.num_sequences for part in parts), sum(part.num_frames for part in parts)]
        if [part.name for part in parts] != [part_name(number) for number in range(len(parts))]:
            raise CacheFormatError(f"{place}: the manifest's parts are not numbered from 0", hint=hint)
        if held != ([plan.num_parts, plan.num_sequences, plan.num_frames] if manifest.complete else [0, 0, 0]):
            raise CacheFormatError(f"{place}: the manifest's list of parts contradicts its plan", hint=hint)
        for contradiction in manifest._contradictions():
            raise CacheFormatError(f"{place}: the manifest contradicts itself: {contradiction}", hint=hint)
        return manifest


def part_name(number: int) -> str:
    """Folder of a part, and its name in the manifest."""
    return f"{number:05d}"


def read_root(storage: Storage) -> bytes:
    """The root metadata of a store, which holds its manifest.

    Raises:
        CacheFormatError: no store there.
        CacheUnreachableError: it cannot be read now.
    """
    try:
        return storage.source.whole(METADATA_FILE, MOST_MANIFEST_BYTES)
    except FileNotFoundError as error:
        served = not storage.source.is_local and error.strerror
        raise absent(storage.place, error) if served else _no_store(storage.place) from None
    except ValueError as error:
        raise CacheFormatError(f"{storage.source.path(METADATA_FILE)} cannot be read: {error}", hint=HINT) from None


def read_manifest(storage: Storage) -> CacheManifest:
    """The manifest of a store, finished or not.

    Raises:
        CacheFormatError: no store there, a format version this release does not know, or a malformed manifest.
        CacheUnreachableError: it cannot be read now.
    """
    return CacheManifest.parse(read_root(storage), storage.place)


def _no_store(place: str) -> CacheFormatError:
    return CacheFormatError(f"{place} is not a Cross4D store", expected=f"a {METADATA_FILE} with a manifest", hint=HINT)
