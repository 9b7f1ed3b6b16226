"""Contract suites for parts of your own: inherit one in a test file, say how your part is made, and run pytest.

What a suite cannot check is said in its class. `pip install 'cross4d[testing]'` brings pytest, which these modules alone import.
"""

from importlib import import_module

from cross4d_cache.installed import needed

with needed("pytest", "runs the contract suites", "pip install 'cross4d[testing]'"):
    import_module("pytest")

from cross4d_train.testing.distillation import DistillationContract
from cross4d_train.testing.encoder import EncoderContract
from cross4d_train.testing.intra_modal import IntraModalContract
from cross4d_train.testing.objective import ObjectiveContract

__all__ = ["DistillationContract", "EncoderContract", "IntraModalContract", "ObjectiveContract"]
