"""Stage one: point-cloud sequences in, per-point targets of a frozen 2D teacher out, in a Zarr store."""
