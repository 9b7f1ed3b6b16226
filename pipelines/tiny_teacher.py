"""Train the teacher that ships with the package, `cross4d_cache/teachers/tiny`, from procedural bodies alone.

    python -m pipelines.tiny_teacher --out out/tiny

No part or action label is used and none of the dataset's actions: every image shows a body of random proportions in a random pose,
and the only signal is which points of two images are the same place on the same body (InfoNCE between the patches they fall in,
against places farther than 12 cm away on the body at rest). The random streams are not those of the synthetic dataset, so no
evaluation sees a body of the training.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64, Integer
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from cross4d_cache.datasets.synthetic.anatomy import animal_body, human_body
from cross4d_cache.datasets.synthetic.body import Body
from cross4d_cache.datasets.synthetic.motion import Motion
from cross4d_cache.datasets.synthetic.primitives import surface_ids
from cross4d_cache.datasets.synthetic.scene import place
from cross4d_cache.datasets.synthetic.sensor import Sensor
from cross4d_cache.progress import progress
from cross4d_cache.rendering.camera import place_cameras
from cross4d_cache.rendering.correspondence import correspond
from cross4d_cache.rendering.projection import batch_cameras
from cross4d_cache.rendering.render import render
from cross4d_cache.teachers.tiny.teacher import WEIGHTS
from cross4d_cache.teachers.tiny.vit import IMAGE_SIZE, PATCH_SIZE, TinyViT, cut_patches, subject_patches
from cross4d_cache.types import RenderSettings
from pipelines.processes import begin_worker

STREAM = 0x71A7
"""First number of every seed here; the dataset's seeds have six numbers, these have four."""
SENSOR = Sensor(image_size=240, focal=214.0)
RENDER = RenderSettings(image_size=IMAGE_SIZE)
ANIMAL_SHARE = 1 / 3
TEMPERATURE = 0.07
NEGATIVE_METRES = 0.12
MATCHES = 64
WEIGHT_DECAY = 0.05
WARMUP = 0.05

HUMAN_RANGES = {
    "pelvis": ((-10, 45), (-12, 12), (-180, 180)),
    "spine": ((-12, 30), (-15, 15), (-15, 15)),
    "chest": ((-10, 22), (-10, 10), (-35, 35)),
    "neck": ((-20, 20), (-10, 10), (-20, 20)),
    "head": ((-15, 20), (-12, 12), (-35, 35)),
    "upper_arm": ((-45, 165), (-10, 130), (-40, 110)),
    "lower_arm": ((0, 125), (0, 0), (-30, 30)),
    "hand": ((-30, 30), (-15, 15), (0, 0)),
    "thigh": ((-25, 110), (-5, 45), (-15, 20)),
    "shin": ((-125, 0), (0, 0), (0, 0)),
    "foot": ((-35, 40), (-12, 12), (0, 0)),
}
"""Lowest and highest flex, side and twist of each joint, degrees; left and right share a range."""
ANIMAL_RANGES = {
    "pelvis": ((-25, 25), (-10, 10), (-180, 180)),
    "spine": ((-15, 25), (-12, 12), (-12, 12)),
    "chest": ((-12, 15), (-10, 10), (-15, 15)),
    "neck": ((-30, 70), (-25, 25), (-25, 25)),
    "head": ((-30, 30), (-15, 15), (-30, 30)),
    "tail": ((-40, 40), (-40, 40), (0, 0)),
    "upper_arm": ((-40, 50), (-5, 20), (0, 0)),
    "lower_arm": ((-20, 60), (0, 0), (0, 0)),
    "hand": ((-30, 50), (0, 0), (0, 0)),
    "thigh": ((-40, 45), (-5, 20), (0, 0)),
    "shin": ((-45, 30), (0, 0), (0, 0)),
    "foot": ((-30, 45), (0, 0), (0, 0)),
}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Two images of each of some bodies, and points of both that are the same place of the body.

    Image `2 b + v` is view `v` of body `b`. `matches` are patches of both views, `rest` the place on the body at rest, metres.
    """

    images: Float32[Tensor, "image height width"]
    matches: Int64[Tensor, "body match 2"]
    rest: Float32[Tensor, "body match 3"]


class RandomBodies(IterableDataset[Pairs]):
    """An endless stream of batches; batch `n` is a pure function of the seed and `n`, whatever the number of workers."""

    def __init__(self, seed: int, num_bodies: int, num_steps: int) -> None:
        self.seed, self.num_bodies, self.num_steps = seed, num_bodies, num_steps

    def __iter__(self) -> Iterator[Pairs]:
        worker = torch.utils.data.get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, self.num_steps, step):
            yield draw_pairs(self.seed, number, self.num_bodies)


def draw_pairs(seed: int, number: int, num_bodies: int) -> Pairs:
    """Batch `number`; a body that shows too little of itself in both images is drawn anew."""
    images: list[Tensor] = []
    matches, rest = [], []
    attempt = 0
    while len(images) < num_bodies:
        rng = np.random.default_rng([STREAM, seed, number, attempt])
        attempt += 1
        body, points, frames, ids = draw_views(rng)
        views = place_cameras(points, np.searchsorted(frames, np.arange(3)).astype(np.int64), RENDER)
        cameras = batch_cameras([views, views], torch.device("cpu"))
        image = torch.from_numpy(frames)
        rendered = render(torch.from_numpy(points), image, cameras, RENDER)
        found = correspond(rendered, image, cameras, RENDER, PATCH_SIZE)
        patch, visible = found.patch.numpy(), found.visible.numpy()
        first, second = (rng.permutation(np.flatnonzero((frames == frame) & visible)) for frame in (0, 1))
        common, in_first, in_second = np.intersect1d(ids[first], ids[second], return_indices=True)
        if len(common) < MATCHES:
            continue
        chosen = rng.permutation(len(common))[:MATCHES]
        matches.append(np.stack([patch[first[in_first[chosen]]], patch[second[in_second[chosen]]]], axis=1))
        rest.append(body.rest_positions(common[chosen]))
        images.append(rendered.image)
    return Pairs(images=torch.cat(images), matches=torch.from_numpy(np.stack(matches)), rest=torch.from_numpy(np.stack(rest)))


def draw_views(
    rng: np.random.Generator,
) -> tuple[Body, Float32[np.ndarray, "point 3"], Int64[np.ndarray, " point"], Integer[np.ndarray, " point"]]:
    """A body, the points that the sensor sees of it in two random poses and headings, their view, and their surface ids."""
    animal = rng.uniform() < ANIMAL_SHARE
    body = animal_body(rng) if animal else human_body(rng)
    motion = Motion(body, 2, rng)
    ranges = ANIMAL_RANGES if animal else HUMAN_RANGES
    strength = rng.uniform(0.2, 1, size=2)  # poses close to rest are as common as extreme ones
    for joint, name in enumerate(body.joint_names):
        low, high = np.array(ranges[name.removeprefix("left_").removeprefix("right_").removesuffix("_tip")], dtype=float).T
        angles = rng.uniform(low, high, size=(2, 3)) * np.where(high - low < 360, strength[:, None], 1)
        motion.angles[:, joint] = angles
    # The two bodies do not stand in one place, so that the image position of a part tells little.
    motion.travel[:] = rng.uniform(-0.5, 0.5, size=2)
    motion.lift[:] = rng.uniform(0, 0.3, size=2)
    primitives = place(body, motion, SENSOR, 180.0, rng)
    hits = SENSOR.cast(primitives)
    rays = np.stack([SENSOR.tangents(hits.columns), SENSOR.tangents(hits.rows), np.ones_like(hits.depths)], axis=1)
    ids = surface_ids(primitives, rays * hits.depths[:, None], hits.frames, hits.primitives)
    noise = rng.standard_normal(len(rays), dtype=np.float32) * np.float32(rng.uniform(0, 0.003))
    return body, rays * (hits.depths + noise * np.square(hits.depths))[:, None], hits.frames, ids


def contrast(model: TinyViT, pairs: Pairs) -> Float32[Tensor, ""]:
    """InfoNCE in both directions between the patches of matching points, within each body."""
    most = int((cut_patches(pairs.images) != 0).any(dim=-1).sum(dim=1).max())
    patches, places, empty = subject_patches(pairs.images, most)
    tokens = functional.normalize(model(patches, places, empty), dim=-1)
    where = torch.zeros(len(tokens), (IMAGE_SIZE // PATCH_SIZE) ** 2, dtype=torch.int64)
    where.scatter_(1, places, torch.arange(places.shape[1]).expand_as(places))
    num_bodies = len(pairs.matches)
    slots = where.view(num_bodies, 2, -1).gather(2, pairs.matches.transpose(1, 2))
    first, second = tokens.view(num_bodies, 2, *tokens.shape[1:]).unbind(1)
    width = tokens.shape[-1]
    first, second = (side.gather(1, slots[:, v].unsqueeze(-1).expand(-1, -1, width)) for v, side in enumerate((first, second)))
    near = torch.cdist(pairs.rest, pairs.rest) < NEGATIVE_METRES
    near.diagonal(dim1=1, dim2=2).fill_(False)
    logits = (first @ second.transpose(1, 2) / TEMPERATURE).masked_fill(near, -torch.inf)
    target = torch.arange(MATCHES).expand(num_bodies, -1).flatten()
    return (
        functional.cross_entropy(logits.flatten(0, 1), target) + functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target)
    ) / 2


def train(*, steps: int, bodies: int, learning_rate: float, seed: int) -> tuple[TinyViT, list[float]]:
    """The trained model and the loss of every step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    losses = []
    loader = DataLoader(
        RandomBodies(seed, bodies, steps),
        batch_size=None,
        num_workers=1,
        prefetch_factor=8,
        multiprocessing_context="forkserver",
        worker_init_fn=begin_worker,
        generator=torch.Generator(),
    )
    for pairs, shown in progress(loader, total=steps, unit="step"):
        loss = contrast(model, pairs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        shown.note = f"loss={np.mean(losses[-50:]):.3f}"
    return model, losses


def main() -> None:
    """Train, and save the weights with their training curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/tiny"))
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--bodies", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the other core draws bodies; one thread also gives the same sums on any machine
    started = time.perf_counter()
    model, losses = train(steps=arguments.steps, bodies=arguments.bodies, learning_rate=arguments.lr, seed=arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / WEIGHTS
    save_file({name: tensor.half() for name, tensor in model.state_dict().items()}, weights)
    record = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "steps": arguments.steps,
        "bodies": arguments.bodies,
        "learning_rate": arguments.lr,
        "seed": arguments.seed,
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "loss": [round(float(np.mean(losses[start : start + 100])), 4) for start in range(0, len(losses), 100)],
    }
    (arguments.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
