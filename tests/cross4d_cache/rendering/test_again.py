"""Frames rendered again are the images that the teacher got, whatever the cameras and the rules of the store."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from cross4d_cache.build.engines.local import Build
from cross4d_cache.build.plan import BuildPlan, plan_build
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.build.targets import TargetMaker
from cross4d_cache.datasets import open_dataset
from cross4d_cache.rendering.again import SequenceAgain, image_of
from cross4d_cache.store import open_cache
from cross4d_cache.teachers import load_teacher


def write_walk(folder: Path) -> None:
    """A lump that crosses the room in six frames, each of its points twice, and a stray."""
    rng = np.random.default_rng(0)
    (folder / "walk").mkdir(parents=True)
    for frame in range(6):
        points = rng.standard_normal((300, 3)).clip(-2, 2) * [0.2, 0.4, 0.2] + [0.5 * frame, 0, 3]
        stray = [[0, 0, 300]] if frame == 4 else []
        np.save(folder / "walk" / f"{frame}.npy", np.concatenate([points, points, *map(np.atleast_2d, stray)]).astype(np.float32))


OLD = {"density": "rows", "framing": "all"}


@pytest.mark.parametrize("rules", [{}, OLD], ids=["new rules", "release 0.1"])
@pytest.mark.parametrize(
    "cameras", [{}, {"camera": "window:2"}, {"camera": "window:4", "views": 2}, {"camera_model": "spherical", "views": 2}], ids=str
)
def test_images_are_those_that_the_teacher_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cameras: dict[str, Any], rules: dict[str, str]
) -> None:
    seen: list[Tensor] = []
    teach = TargetMaker._teach

    def watch(maker: TargetMaker, images: Tensor, num_windows: int) -> Any:
        seen.append(images.clone())
        return teach(maker, images, num_windows)

    monkeypatch.setattr(TargetMaker, "_teach", watch)
    write_walk(tmp_path / "data")
    dataset, teacher = open_dataset("folder", tmp_path / "data"), load_teacher("tiny")
    plan = plan_build(dataset, teacher, BuildSettings(points_per_frame=512, **cameras))
    manifest = plan.manifest.model_copy(update={"render": plan.manifest.render.model_copy(update=rules)})
    plan = BuildPlan(manifest=manifest, parts=plan.parts, projection=plan.projection, settings=plan.settings)
    for _ in Build(dataset, teacher, plan, tmp_path / "store.zarr").run():
        pass
    views = manifest.render.views
    [images_of_batch] = seen
    given = images_of_batch[:, 0].numpy()  # frame by frame, view by view
    assert len(given) == 6 * views
    sequence = SequenceAgain(open_cache(tmp_path / "store.zarr"), 0)
    for frame in range(6):
        images = sequence.frame(frame).images
        assert images.max() > 0
        np.testing.assert_allclose(images, given[frame * views : (frame + 1) * views], atol=1e-6)
        np.testing.assert_array_equal(image_of(sequence.cache, 0, frame), images[0])
