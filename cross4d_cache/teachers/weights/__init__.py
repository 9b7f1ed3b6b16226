"""The weights of a teacher: found, checked and loaded, whichever of four kinds they are."""

from cross4d_cache.teachers.weights.folder import load_pretrained
from cross4d_cache.teachers.weights.load import load_weights
from cross4d_cache.teachers.weights.model import LoadedModel, Normalisation, Preprocessing
from cross4d_cache.teachers.weights.source import Original, WeightSource
from cross4d_cache.teachers.weights.untrained import build_random

__all__ = ["LoadedModel", "Normalisation", "Original", "Preprocessing", "WeightSource", "build_random", "load_pretrained", "load_weights"]
