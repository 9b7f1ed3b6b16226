"""The one way in which every named teacher gets its weights."""

from dataclasses import replace
from pathlib import Path

from cross4d_cache.teachers.weights.checkpoint import load_checkpoint
from cross4d_cache.teachers.weights.configuration import model_type
from cross4d_cache.teachers.weights.files import weight_files
from cross4d_cache.teachers.weights.folder import load_pretrained, locate
from cross4d_cache.teachers.weights.model import LoadedModel
from cross4d_cache.teachers.weights.source import WeightSource
from cross4d_cache.teachers.weights.untrained import load_random


def load_weights(weights: str | None, source: WeightSource, seed: int) -> LoadedModel:
    """A teacher's model with its weights: published (None), `random`, a file of the authors, a folder, or a hub id (`ID@REVISION`).

    Raises:
        TeacherError: the weights cannot be had or do not fit.
    """
    if weights == "random":
        return load_random(lambda: source.build(source.variant), source.preprocessing, seed)
    if weights is not None and Path(weights).is_file():
        return load_checkpoint([Path(weights)], source)
    weights = weights or source.published
    if source.original.on_hub:
        folder, revision = locate(weights)
        if model_type(folder) not in source.model_types:
            loaded = load_checkpoint(weight_files(folder), source)
            return replace(loaded, label=folder.name if revision is None else weights.partition("@")[0], revision=revision)
    return load_pretrained(weights, source)
