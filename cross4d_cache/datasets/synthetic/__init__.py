"""Procedural people and animals seen by a depth sensor: a dataset with exact part labels and surface identity, without a download."""
