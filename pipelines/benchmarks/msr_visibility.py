"""MSR-Action3D: what counts as visible, the nearest point of each pixel (the paper) or all on the nearest surface (ours).

    python -m pipelines.benchmarks.msr_visibility --data DIR --weights FOLDER [--out out/msr_visibility] [--seeds 3] [--json FILE]

Coverage with 1, 2 and 4 cameras at 126 px and 2,048 points, on every eighth frame of all sequences; then, as in
`pipelines.conditioning`, dense distillation from a store of either rule, and the probe.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from cross4d_cache.build.preparation import prepare
from cross4d_cache.build.request import BuildSettings
from cross4d_cache.datasets import open_dataset
from cross4d_cache.datasets.dataset import Dataset
from cross4d_cache.errors import user_errors
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.types import RenderSettings
from cross4d_train.objectives.objective import ObjectiveSettings
from pipelines.conditioning import BUDGET, build_of
from pipelines.experiment.comparison import Comparison, Row, as_record
from pipelines.experiment.report import markdown
from pipelines.experiment.work import Store
from pipelines.report_file import report_file

RULES = ("surface", "winner")
CAMERAS = (1, 2, 4)
IMAGE_SIZE, PATCH_SIZE, POINTS, STRIDE = 126, 14, 2048, 8


def coverage(dataset: Dataset, rule: str, views: int) -> dict[str, float]:
    """Share of points that at least one of some cameras sees, and hit patches of an image."""
    settings = RenderSettings.model_validate({"image_size": IMAGE_SIZE, "views": views, "visibility": rule})
    seen = total = hits = images = 0
    for info in dataset.sequences():
        prepared = prepare(info, dataset.frames(info), settings, points_per_frame=POINTS, seed=0)
        for frame in range(0, info.num_frames, STRIDE):
            points = torch.from_numpy(prepared.points[prepared.point_offsets[frame] : prepared.point_offsets[frame + 1]])
            image = torch.arange(views).repeat_interleave(len(points))
            cameras = batch_cameras([prepared.views[0]], torch.device("cpu"))
            view = render(points.repeat(views, 1), image, cameras, settings)
            found = correspond(view, image, cameras, settings, PATCH_SIZE)
            seen += int(found.visible.view(views, -1).any(dim=0).sum())
            hits += len(np.unique((image * 10_000 + found.patch)[found.visible]))
            total += len(points)
            images += views
    return {"coverage": round(seen / total, 4), "hit_patches": round(hits / images, 2)}


def main() -> None:
    """Measure coverage, build the stores, train and judge, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the .bin files")
    parser.add_argument("--weights", required=True, help="teacher weights: folder or hub id of an image backbone")
    parser.add_argument("--out", type=Path, default=Path("out/msr_visibility"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=report_file, help="write everything to this file")
    arguments = parser.parse_args()
    started = time.perf_counter()
    request = build_of(arguments.data, arguments.weights)
    stores = {
        rule: Store(path=arguments.out / f"{rule}.zarr", request=request.model_copy(update={"settings": BuildSettings(visibility=rule)}))
        for rule in RULES
    }
    rows = [Row(name=rule, store=rule, objective=ObjectiveSettings()) for rule in RULES]
    rows.append(Row(name="untrained", store=RULES[0], objective=None))
    comparison = Comparison(rows, {"msr": stores}, BUDGET, reference=RULES[0], root=arguments.out)
    with user_errors():
        dataset = open_dataset("msr_action3d", arguments.data)
        shares = [{"rule": rule, "cameras": views, **coverage(dataset, rule, views)} for rule in RULES for views in CAMERAS]
        builds = dict(zip(RULES, comparison.build(), strict=True))
        finished = comparison.finished(arguments.seeds, comparison.best_rates(arguments.seeds))
    found = as_record(comparison, finished, time.perf_counter() - started) | {"coverage": shares, "builds": builds}
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print("rule     cameras  coverage  hit patches an image")
    for row in shares:
        print(f"{row['rule']:7s}  {row['cameras']:7d}  {row['coverage']:8.1%}  {row['hit_patches']:20.1f}")
    print(f"\n{BUDGET.describe()}\n\n{markdown(finished)}\n{found['minutes']} minutes")


if __name__ == "__main__":
    main()
