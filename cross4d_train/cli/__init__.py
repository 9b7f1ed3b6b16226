"""The command `cross4d-train`."""
