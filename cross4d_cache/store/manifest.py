"""The manifest: what a store holds and everything that decided its numbers (docs/cache_format.md)."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cross4d_cache.errors import CacheFormatError
from cross4d_cache.store.digest import canonical_json, sha256_bytes, write_durably
from cross4d_cache.types import CORRESPONDENCE, RenderSettings, TeacherSpec

FORMAT_VERSION: Literal[1] = 1
METADATA_FILE = "zarr.json"
ATTRIBUTE = "cross4d"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatasetRecord(_Record):
    """Where the sequences came from. `fingerprint` is of the raw data's listing."""

    name: str
    version: str
    options: dict[str, Any]
    fingerprint: str
    protocols: tuple[str, ...]
    action_names: tuple[str, ...]
    part_names: tuple[str, ...]


class ProjectionRecord(_Record):
    """How teacher channels became target channels. `sha256` is of the stored matrix, None without one."""

    kind: Literal["random", "pca", "none"]
    seed: int
    channels: int
    sha256: str | None


class PlanRecord(_Record):
    """How the build was cut into parts and batches; `sha256` is of the sequence ids of every part.

    Batches are recorded because devices may round differently at another batch size.
    """

    batch_frames: int
    num_parts: int
    num_sequences: int
    num_frames: int
    sha256: str


class PartRecord(_Record):
    """One committed part. `sha256` is of its file list, which holds the hash of each of its files."""

    name: str = Field(pattern=r"^\d{5,}$")
    num_sequences: int
    num_frames: int
    num_points: int
    num_visible: int
    num_rows: int
    bytes: int
    sha256: str


class CacheManifest(_Record):
    """The attributes of a store's root group.

    A store that is being built has `complete=False` and no parts. `points_per_frame` is the most points kept of a frame; which
    ones is decided by `seed`, as are the draws of a shuffled or random `correspondence` and the frames
    that a PCA is fitted on.
    """

    format_version: Literal[1] = FORMAT_VERSION
    complete: bool
    dataset: DatasetRecord
    points_per_frame: int
    seed: int
    render: RenderSettings
    correspondence: str = Field(default="zbuffer", pattern=f"^({CORRESPONDENCE})$")
    teacher: TeacherSpec
    projection: ProjectionRecord
    plan: PlanRecord
    software: dict[str, str]
    parts: tuple[PartRecord, ...] = ()

    @property
    def views(self) -> int:
        """Cameras per sequence."""
        return self.render.views

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the numbers of a sequence; stores merge only if theirs agree."""
        return sha256_bytes(canonical_json(self._deciding()))

    def _deciding(self) -> dict[str, Any]:
        record = self.model_dump(mode="json", exclude={"complete", "software", "parts", "plan"})
        for key in ("fingerprint", "protocols", "action_names", "part_names"):
            del record["dataset"][key]
        for key in ("weights", "revision"):  # where the weights were found; their hash stays
            del record["teacher"][key]
        return record

    def _planned(self) -> dict[str, object]:
        """All that a build must agree on to go on with another's work, by dotted name."""
        record = {**self._deciding(), "dataset": self.dataset.model_dump(mode="json"), "plan": self.plan.model_dump(mode="json")}
        return _flatten(record)

    def differences(self, other: "CacheManifest") -> list[str]:
        """Settings in which two builds differ, one line each; empty if one may go on with the other's work."""
        mine, theirs = self._planned(), other._planned()
        return [
            f"{key}: {mine.get(key)} here, {theirs.get(key)} there" for key in sorted(mine | theirs) if mine.get(key) != theirs.get(key)
        ]

    def write(self, store: Path) -> None:
        """Replace the root metadata of `store` atomically."""
        record = {**self.model_dump(mode="json"), "fingerprint": self.fingerprint}
        attributes = {ATTRIBUTE: {**record, "checksum": sha256_bytes(canonical_json(record))}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        write_durably(store / METADATA_FILE, json.dumps(group, indent=1, sort_keys=True, allow_nan=False).encode())

    @classmethod
    def read(cls, store: Path) -> "CacheManifest":
        """Read and validate the manifest of a store, finished or not.

        Raises:
            CacheFormatError: no store there, a format version this release does not know, or a malformed manifest.
        """
        attributes = read_attributes(store)
        version = attributes.get("format_version")
        if version != FORMAT_VERSION:
            raise CacheFormatError(
                f"{store} has cache format version {version!r}",
                expected=f"version {FORMAT_VERSION}, the one this release reads",
                hint="update cross4d, or build the store again",
            )
        checksum = attributes.pop("checksum", None)
        try:
            intact = checksum == sha256_bytes(canonical_json(attributes))
            fingerprint = attributes.pop("fingerprint", None)
            manifest = cls.model_validate(attributes)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CacheFormatError(f"{store}: manifest field {field!r}: {first['msg']}", hint="build or copy the store again") from None
        except ValueError as error:
            raise CacheFormatError(f"{store}: the manifest cannot be checked: {error}", hint="copy or build the store again") from None
        if not intact or manifest.fingerprint != fingerprint:
            raise CacheFormatError(
                f"{store}: the manifest's {'fingerprint does not belong to its settings' if intact else 'checksum does not fit it'}",
                hint="the manifest was edited or damaged; copy or build the store again",
            )
        return manifest


def read_attributes(store: Path) -> dict[str, Any]:
    """The raw manifest of a store.

    Raises:
        CacheFormatError: the folder holds no store.
    """
    hint = "pass the folder that `cross4d-cache build --out` wrote"
    try:
        if not store.exists():
            raise CacheFormatError(f"there is no store at {store}", hint=hint)
        group = json.loads((store / METADATA_FILE).read_bytes())
        attributes = group["attributes"][ATTRIBUTE]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise CacheFormatError(f"{store} is not a Cross4D store", expected=f"a {METADATA_FILE} with a manifest", hint=hint) from None
    if not isinstance(attributes, dict):
        raise CacheFormatError(f"{store} is not a Cross4D store", expected="a manifest that is a JSON object", hint=hint)
    return attributes


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in _flatten(item, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): value}
