"""Rules that decide numbers are recorded: new builds name theirs, and go on with no store of another."""

from pathlib import Path

import numpy as np
import pytest

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.errors import CacheMismatchError
from cross4d_cache.store import CacheWriter
from cross4d_cache.teachers import load_teacher


@pytest.mark.parametrize("rule", ["density", "framing"])
def test_an_unfinished_store_of_another_rule_is_refused_with_the_rule_named(tmp_path: Path, rule: str) -> None:
    (tmp_path / "data" / "only").mkdir(parents=True)
    np.save(tmp_path / "data" / "only" / "0.npy", np.random.default_rng(0).random((50, 3), np.float32))
    dataset, teacher = open_dataset("folder", tmp_path / "data"), load_teacher("tiny")
    plan = plan_build(dataset, teacher, BuildSettings())
    assert (plan.manifest.render.density, plan.manifest.render.framing) == ("places", "most")
    record = plan.manifest.model_dump(mode="json")
    del record["render"][rule]  # as release 0.1 wrote it
    CacheWriter(tmp_path / "store.zarr", type(plan.manifest).model_validate(record), plan.projection.matrix)
    with pytest.raises(CacheMismatchError, match=f"render.{rule}"):
        Build(dataset, teacher, plan, tmp_path / "store.zarr")
