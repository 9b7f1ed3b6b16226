"""Frames as cameras see them, and which patch each point falls in."""
