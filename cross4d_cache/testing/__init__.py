"""Contract suites for parts of your own: inherit one in a test file, say how your part is made, and run pytest.

What a suite cannot check is said in its class. `pip install 'cross4d[testing]'` brings pytest, which these modules alone import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cross4d_cache.installed import needed

with needed("pytest", "runs the contract suites", "pip install 'cross4d[testing]'"):
    import_module("pytest")

if TYPE_CHECKING:
    from cross4d_cache.testing.dataset import DatasetContract as DatasetContract
    from cross4d_cache.testing.teacher import TeacherContract as TeacherContract
else:
    _HOMES = {"DatasetContract": "cross4d_cache.testing.dataset", "TeacherContract": "cross4d_cache.testing.teacher"}
    """Where the suites are, which are imported when they are first asked for: that of teachers needs transformers."""

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
