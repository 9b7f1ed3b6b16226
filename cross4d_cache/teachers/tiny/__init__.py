"""The teacher that ships with the package: a ViT of 1.06 M parameters, trained on renders of procedural bodies.

`README.md` beside this file is its model card; `python -m pipelines.tiny_teacher` trains it again.
"""

from cross4d_cache.teachers.tiny.teacher import load

__all__ = ["load"]
