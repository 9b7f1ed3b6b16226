"""Stage one from sequences to a store."""
