"""Who asks: logins of an address, a token of the environment, a netrc file. Each goes to the one origin that it was given for."""

import os
import re
from base64 import b64encode
from netrc import NetrcParseError, netrc
from urllib.parse import SplitResult, unquote, urlsplit

from cross4d_cache.errors import SettingsError

TOKEN = "CROSS4D_TOKEN"
"""Environment variable: `https://host=TOKEN`, several with spaces between. No token goes anywhere else, so an address that somebody sent
gets none. A command line would show it to everybody on this machine."""
_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]


def origin(url: str | SplitResult) -> Origin:
    """Scheme, host and port of an address: who gets what is sent there.

    Raises:
        ValueError: its port is no number.
    """
    parts = urlsplit(url) if isinstance(url, str) else url
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def authorization(address: SplitResult) -> str | None:
    """The header that opens an address: of the login in it, else of a token for its origin, else of netrc's login for its host.

    Raises:
        SettingsError: a token that is none.
    """
    if address.username is not None:
        return _basic(unquote(address.username), unquote(address.password or ""))
    token = _tokens().get(origin(address))
    if token is not None:
        return f"Bearer {token}"
    login = _netrc_login(address.hostname or "")
    return None if login is None else _basic(*login)


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _tokens() -> dict[Origin, str]:
    tokens = {}
    for word in os.environ.get(TOKEN, "").split():
        found = re.fullmatch(r"(https?://[^/=@\s]+)/?=([A-Za-z0-9._~+/-]+=*)", word)  # RFC 6750's characters
        try:
            tokens[origin(found[1] if found else "http://:")] = found[2] if found else ""
        except ValueError:
            found = None
        if found is None:
            raise SettingsError(
                f"{TOKEN} cannot be read",
                expected="as in https://data.example.org=TOKEN, several with spaces between",
                hint="fix or unset it",
            )
    return tokens


def _netrc_login(host: str) -> tuple[str, str] | None:
    """The login that the user's netrc file, or the one that NETRC names, has for a host by name."""
    try:
        entry = netrc(os.environ.get("NETRC")).hosts.get(host)
    except (OSError, NetrcParseError, UnicodeDecodeError):  # it may be meant for others; a server that wants a login says so
        return None
    return None if entry is None else (entry[0] or entry[1] or "", entry[2] or "")
