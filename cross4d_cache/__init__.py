"""Stage one: point-cloud sequences in, per-point targets of a frozen 2D teacher out, in a Zarr store."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cross4d_cache.store import Cache as Cache
    from cross4d_cache.store import open_cache as open_cache
else:
    _HOMES = {"Cache": "cross4d_cache.store", "open_cache": "cross4d_cache.store"}
    """Where the public names are, which are imported when they are first asked for."""

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
