"""The user's own point clouds: one folder a sequence, one file a frame."""
