"""The store: what stage one writes and stage two reads. numpy, zarr and pydantic only; see docs/cache_format.md."""

from cross4d_cache.store.manifest import CacheManifest, DatasetRecord, PlanRecord, ProjectionRecord
from cross4d_cache.store.part import NOT_VISIBLE, PartContents
from cross4d_cache.store.reader import Cache, open_cache, stored_projection
from cross4d_cache.store.verify import PartCheck, mark_damaged, verify
from cross4d_cache.store.writer import CacheWriter, check_place

__all__ = [
    "NOT_VISIBLE",
    "Cache",
    "CacheManifest",
    "CacheWriter",
    "DatasetRecord",
    "PartCheck",
    "PartContents",
    "PlanRecord",
    "ProjectionRecord",
    "check_place",
    "mark_damaged",
    "open_cache",
    "stored_projection",
    "verify",
]
