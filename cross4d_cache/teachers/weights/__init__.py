"""The weights of a teacher: found, checked and loaded, whichever of four kinds they are."""

from cross4d_cache.teachers.weights.folder import load_pretrained
from cross4d_cache.teachers.weights.load import load_weights
from cross4d_cache.teachers.weights.model import LoadedModel, Preprocessing
from cross4d_cache.teachers.weights.source import Original, WeightSource

__all__ = ["LoadedModel", "Original", "Preprocessing", "WeightSource", "load_pretrained", "load_weights"]
