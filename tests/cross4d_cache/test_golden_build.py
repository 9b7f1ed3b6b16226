"""Builds whose arrays release 0.1 wrote: a changed rule leaves data that it does not concern as they were, bit for bit.

`python -m tests.cross4d_cache.test_golden_build FILE` writes what the running release builds; only release 0.1 made the file of the tests.
"""

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.store import open_cache
from cross4d_cache.teachers import load_teacher

GOLDEN = Path(__file__).parent / "golden" / "build_v1.json"
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    "views": {"views": 2},
    "windows": {"camera": "window:2"},
    "winner": {"visibility": "winner"},
    "spherical": {"camera_model": "spherical", "views": 2},
}
EXACT = ("point_offsets", "points", "patch_slot", "frame_tubelet", "feature_offsets", "feature_patch")
"""Whole numbers. The others are floats, whose last bits the processor may decide."""
CLOSE = ("boxes", "intrinsics", "world_to_camera", "features", "frame_features")


def write_clouds(folder: Path) -> None:
    """A drifting ball and a board before a wall, of 700 points a frame: no stray, no repeat, near the origin; made by exact arithmetic."""
    rng = np.random.default_rng(0)
    for name in ("ball", "board"):
        (folder / name).mkdir(parents=True)
        for t in range(4):
            points = rng.integers(-1000, 1001, (700, 3)) / 2048
            if name == "ball":
                points /= np.sqrt((points**2).sum(axis=1, keepdims=True)) * 2
            else:
                points[:, 2] = np.where(np.arange(700) < 200, 0.0, 0.5)
            np.save(folder / name / f"{t:03d}.npy", (points + np.array([0.125 * t, 0.0, 2.0])).astype(np.float32))


def build_arrays(folder: Path, case: str) -> dict[str, Any]:
    """The arrays of a build of these clouds: hashes of whole numbers, values of cameras, and of the first features."""
    if not (folder / "clouds").exists():
        write_clouds(folder / "clouds")
    dataset, teacher = open_dataset("folder", folder / "clouds", {}), load_teacher("tiny")
    plan = plan_build(dataset, teacher, BuildSettings(points_per_frame=512, **CASES[case]))
    for _ in Build(dataset, teacher, plan, folder / case).run():
        pass
    cache = open_cache(folder / case)
    part = cache.part(0)
    whole = {name: part.rows(name, 0, int(part._arrays[name].shape[0])) for name in (*EXACT, *CLOSE)}
    exact = {name: [list(whole[name].shape), hashlib.sha256(whole[name].tobytes()).hexdigest()] for name in EXACT}
    return exact | {name: whole[name].reshape(len(whole[name]), -1)[:8, :12].astype(float).tolist() for name in CLOSE}


@pytest.mark.parametrize("case", CASES)
def test_builds_give_the_arrays_of_release_0_1(tmp_path: Path, case: str) -> None:
    found, expected = build_arrays(tmp_path, case), json.loads(GOLDEN.read_text())[case]
    assert {name: found[name] for name in EXACT} == {name: expected[name] for name in EXACT}
    for name in CLOSE:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=2e-3 if "features" in name else 1e-9, err_msg=name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        Path(sys.argv[1]).write_text(json.dumps({case: build_arrays(Path(place), case) for case in CASES}) + "\n")
