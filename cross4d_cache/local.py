"""Places that are written to: they are on this machine."""

from pathlib import Path

from cross4d_cache.errors import SettingsError


def local_path(place: str | Path) -> Path:
    """The path that an option names; defaults come as paths.

    Raises:
        SettingsError: it is an address, which `Path` would make a folder `s3:` of.
    """
    if "://" in str(place):
        raise SettingsError(f"cannot write to {place}", expected="a place on this machine", hint="write it here, then copy it there")
    return Path(place)
