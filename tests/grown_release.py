"""A release of the future: every recorded model has a field more. It must read what this release and the first one wrote."""

import json
import tempfile
import zipfile
from pathlib import Path

from cross4d_cache import record

TESTS = Path(__file__).parent


def grow() -> None:
    """Give all recorded models a field, before the modules that define them are imported."""

    class Grown(record.Record):
        later_field: str | None = record.added(None)

    record.Record = Grown  # type: ignore[misc]


def check() -> None:
    """Open, verify, merge and resume; prints `whole`."""
    from cross4d_cache.store import CacheManifest, open_cache, verify
    from cross4d_cache.store.digest import FileRecord
    from cross4d_cache.types import SequenceInfo
    from cross4d_train.encoders.point4d import Level
    from cross4d_train.run import RunResult
    from cross4d_train.settings import RunSettings

    for kind in (CacheManifest, FileRecord, SequenceInfo, Level, RunResult, RunSettings):
        assert "later_field" in kind.model_fields, kind
    golden = TESTS / "cross4d_cache" / "store" / "golden"
    raw = json.loads(zipfile.ZipFile(golden / "store_v1.zip").read("zarr.json"))["attributes"]["cross4d"]
    cache = open_cache(golden / "store_v1.zip")
    assert [problem for part in verify(cache) for problem in part.problems] == []
    assert (cache.manifest.fingerprint, cache.manifest.checksum) == (raw["fingerprint"], raw["checksum"])
    assert cache.manifest.unknown == ()
    assert cache.sequences[0].later_field is None
    with tempfile.TemporaryDirectory() as place:
        _merge(Path(place), golden / "store_v1.zip", raw["fingerprint"])
        _resume(Path(place))
        _export(Path(place))
    RunResult.from_json((TESTS / "cross4d_train" / "golden" / "result.json").read_bytes())
    print("whole")


def _merge(place: Path, store: Path, fingerprint: str) -> None:
    from cross4d_cache.sharing.merge import Merge
    from cross4d_cache.store import open_cache

    list(Merge(place / "merged", [open_cache(store)]).run())
    assert open_cache(place / "merged").manifest.fingerprint == fingerprint


def _export(place: Path) -> None:
    from cross4d_cache.work import finish
    from cross4d_train.export import ExportRequest, export
    from cross4d_train.exported import StudentConfig, read_config
    from cross4d_train.features import load

    assert "later_field" in StudentConfig.model_fields
    finish(export(ExportRequest(run=str(TESTS / "cross4d_train" / "golden" / "run_v1"), out=place / "student")))
    assert "later_field" not in (place / "student" / "config.json").read_text()
    assert read_config(place / "student" / "config.json").step == load(place / "student", device="cpu").record.step


def _resume(place: Path) -> None:
    from tests.cross4d_train.test_golden_run import check_resumed

    check_resumed(place / "run")
