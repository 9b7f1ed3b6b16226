"""Both packages as others import them: at once, with types, and without what only some of their work needs."""

import subprocess
import sys
from pathlib import Path

import pytest

import cross4d_cache
import cross4d_train

HEAVY = "{'torch', 'zarr', 'transformers', 'open3d', 'numpy', 'pydantic', 'typer'}"


def loaded(statement: str, among: str = HEAVY) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    code = f"import sys; {statement}; print(*({among} & set(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_packages_loads_nothing_heavy() -> None:
    assert loaded("import cross4d_cache, cross4d_train") == set()


def test_opening_a_store_needs_neither_torch_nor_transformers() -> None:
    assert loaded("from cross4d_cache import open_cache", "{'torch', 'transformers', 'open3d'}") == set()


def test_public_names_are_there_when_they_are_asked_for() -> None:
    from cross4d_cache.store import Cache, open_cache
    from cross4d_train.features import Student, load, pca_colours
    from cross4d_train.store_dataset import StoreDataset

    assert (cross4d_cache.Cache, cross4d_cache.open_cache) == (Cache, open_cache)
    assert (cross4d_train.Student, cross4d_train.load, cross4d_train.pca_colours) == (Student, load, pca_colours)
    assert cross4d_train.StoreDataset is StoreDataset
    assert {"Cache", "open_cache"} <= set(dir(cross4d_cache))
    assert {"Student", "load", "pca_colours", "StoreDataset"} <= set(dir(cross4d_train))


@pytest.mark.parametrize("package", [cross4d_cache, cross4d_train])
def test_packages_have_types_and_no_other_names(package) -> None:  # type: ignore[no-untyped-def]
    assert (Path(str(package.__file__)).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'teleport'"):
        package.teleport  # noqa: B018
