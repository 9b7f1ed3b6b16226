import pytest

from cross4d_cache.errors import SettingsError
from cross4d_cache.installed import needed


@pytest.mark.parametrize("caught", [SettingsError, ImportError])
def test_a_missing_package_is_a_users_error_and_an_import_error(caught: type[Exception]) -> None:
    with (
        pytest.raises(
            caught, match=r"(?s)^xyzzy, which does magic, cannot be imported: No module named 'xyzzy'.*next: pip install cross4d"
        ),
        needed("xyzzy", "does magic"),
    ):
        import xyzzy  # noqa: F401


def test_a_system_library_may_be_missing_and_what_installs_it_may_be_another_line() -> None:
    with pytest.raises(SettingsError, match=r"(?s)libusb.*next: apt install it"), needed("Open3D", "casts rays", "apt install it"):
        raise OSError("libusb-1.0.so.0: cannot open shared object file")
