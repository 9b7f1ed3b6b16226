"""The paper's tables and figures, recomputed: `python -m pipelines.<dataset>` (see pipelines/paper/recipe.py)."""
