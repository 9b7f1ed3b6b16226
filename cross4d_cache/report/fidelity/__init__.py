"""How well the targets of a store belong to their points: visibility, depth, and agreement between frames."""

from cross4d_cache.report.fidelity.measure import Fidelity, measure_fidelity
from cross4d_cache.report.fidelity.report import FidelityReport, describe

__all__ = ["Fidelity", "FidelityReport", "describe", "measure_fidelity"]
