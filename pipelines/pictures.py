"""What pictures of clips are made of: features of points as colours, and the images that the teacher saw."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float32, Shaped
from matplotlib.axes import Axes
from torch import Tensor

from cross4d_cache.rendering.again import SequenceAgain
from cross4d_cache.store import Cache
from cross4d_cache.types import CachedClip
from cross4d_train.checkpoint import load_checkpoint, load_encoder, load_weights
from cross4d_train.encoders.encoder import Encoder
from cross4d_train.interpolation import spread
from cross4d_train.objectives import build_objective
from cross4d_train.objectives.distillation import Distillation
from cross4d_train.objectives.objective import TargetSpec
from cross4d_train.report.colours import principal_colours

matplotlib.use("Agg")


def teacher_features(clip: CachedClip) -> Float32[Tensor, "point channel"]:
    """The target of every point, zero where there is none."""
    weight = torch.from_numpy((clip.rows >= 0).astype(np.float32))
    features = torch.from_numpy(clip.features.astype(np.float32))[torch.from_numpy(np.maximum(clip.rows, 0)).long()]
    return (features * weight[..., None]).sum(dim=1) / weight.sum(dim=1, keepdim=True).clamp_min(1)


def student_features(
    cache: Cache, clips: list[CachedClip], checkpoint: Path
) -> tuple[list[Float32[Tensor, "_ channel"]], list[Float32[Tensor, "_ width"]]]:
    """For all stored points of each clip the target that the student predicts, and its own features."""
    loaded = load_checkpoint(checkpoint)
    encoder = load_encoder(loaded).eval()
    objective = build_objective(loaded.record.settings.objective, encoder, TargetSpec.of(cache.manifest))
    assert isinstance(objective, Distillation)
    load_weights(objective, loaded.part("objective"), "objective")
    own = [encoder_features(encoder, clip) for clip in clips]
    with torch.inference_mode():
        predictions = [objective.head(features) for features in own]
        # The cosine leaves the length of a prediction open; whitened targets have a deviation of one.
        length = torch.cat(predictions).square().mean().sqrt()
        return [objective.conditioning.restore(prediction / length) for prediction in predictions], own


def encoder_features(encoder: Encoder, clip: CachedClip) -> Float32[Tensor, "_ width"]:
    """An encoder's features of all stored points of a clip."""
    counts = np.diff(clip.point_offsets)
    most = int(counts.max())
    padded = [np.resize(np.arange(start, start + count), most) for start, count in zip(clip.point_offsets, counts, strict=False)]
    points = torch.from_numpy(clip.points[np.stack(padded)])[None]
    with torch.inference_mode():
        tokens = encoder(points)
        features = spread(tokens.features, tokens, points)[0]
    return torch.cat([frame[:count] for frame, count in zip(features, counts, strict=True)])


def colours_of_groups(groups: list[Float32[Tensor, "point channel"]]) -> list[Float32[np.ndarray, "point 3"]]:
    """One colour space for all groups."""
    colours = principal_colours(torch.cat(groups)).numpy()
    return np.split(colours, np.cumsum([len(group) for group in groups])[:-1])


def image_of(cache: Cache, index: int, frame: int) -> Float32[np.ndarray, "height width"]:
    """The image that the teacher saw of the first view, rendered again from the store."""
    image: Float32[np.ndarray, "height width"] = SequenceAgain(cache, index).frame(frame).images[0]
    return image


def scatter(axis: Axes, points: Float32[np.ndarray, "point 3"], colours: Shaped[np.ndarray, "point ..."]) -> None:
    """Points seen from the sensor, the nearest on top."""
    order = np.argsort(-points[:, 2])
    axis.scatter(points[order, 0], -points[order, 1], c=colours[order], s=3, linewidths=0)
    axis.set_aspect("equal")
