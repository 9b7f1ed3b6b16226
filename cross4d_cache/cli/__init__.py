"""The command `cross4d-cache`."""

from cross4d_cache.cli.app import app, main

__all__ = ["app", "main"]
