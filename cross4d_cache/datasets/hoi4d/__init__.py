"""HOI4D (Liu et al. 2022): people handling objects, as challenge files (HDF5) or as RGB-D recordings."""

from cross4d_cache.datasets.hoi4d.dataset import HOI4D

__all__ = ["HOI4D"]
