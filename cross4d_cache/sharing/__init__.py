"""Stores that go from hand to hand: merged, cut, packed into one file, copied from elsewhere. Needs no teacher and no raw data."""
