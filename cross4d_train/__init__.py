"""Stage two: train and evaluate point-cloud encoders from the stores of stage one."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cross4d_train.features import Student as Student
    from cross4d_train.features import load as load
    from cross4d_train.features import pca_colours as pca_colours
    from cross4d_train.store_dataset import StoreDataset as StoreDataset
else:
    _HOMES = {
        "Student": "cross4d_train.features",
        "load": "cross4d_train.features",
        "pca_colours": "cross4d_train.features",
        "StoreDataset": "cross4d_train.store_dataset",
    }
    """Where the public names are, which are imported when they are first asked for."""

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
