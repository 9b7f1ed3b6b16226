"""One request at a time to a web server: through the proxies of the environment, along redirects, with the login for its origin alone."""

import re
import ssl
from collections.abc import Mapping
from http.client import BadStatusLine, RemoteDisconnected
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, NameResolutionError, ProxyError, SSLError
from urllib3.response import BaseHTTPResponse
from urllib3.util import Timeout, make_headers, parse_url

from cross4d_cache.errors import SettingsError
from cross4d_cache.store.storage.login import authorization, origin
from cross4d_cache.store.storage.source import BLOCK, CONNECTIONS

TIMEOUT = Timeout(connect=10.0, read=30.0)
MOST_REDIRECTS = 5


class FinalError(Exception):
    """A failure that no other attempt will fix."""


class Client:
    """Asks for addresses of one origin, and those that it leads to.

    Raises:
        SettingsError: a token of the environment that cannot be read.
    """

    def __init__(self, address: SplitResult) -> None:
        self._headers = make_headers(accept_encoding="identity", user_agent="cross4d")
        self._origin, self._authorization = origin(address), authorization(address)
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}

    def get(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        """The answer, whose body has not been read; the caller closes it.

        Raises:
            FinalError: the address leads where nothing can be had.
            HTTPError: the server cannot be reached; `is_final` says whether that will stay so.
            SettingsError: a proxy that cannot be used.
        """
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._get(url, headers)
            location = answer.get_redirect_location()
            if not location:
                return answer
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and len(length) < len(str(BLOCK)):
                answer.drain_conn()  # so that the connection can be used again
            answer.close()
            url = _follow(url, location)
        raise FinalError(f"the server leads on more than {MOST_REDIRECTS} times")

    def _get(self, url: str, headers: Mapping[str, str]) -> BaseHTTPResponse:
        allowed = {"authorization": self._authorization} if self._authorization and origin(url) == self._origin else {}
        return self._manager(urlsplit(url)).urlopen(
            "GET",
            url,
            headers={**self._headers, **allowed, **headers},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )

    def _manager(self, url: SplitResult) -> urllib3.PoolManager:
        """The connections by which an address is reached."""
        server = (url.scheme, url.netloc)
        if server not in self._managers:
            proxies = getproxies()
            proxy = None if proxy_bypass(url.netloc) else proxies.get(url.scheme) or proxies.get("all")
            self._managers[server] = _through(proxy) if proxy else urllib3.PoolManager(maxsize=CONNECTIONS, timeout=TIMEOUT)
        return self._managers[server]


def _through(proxy: str) -> urllib3.PoolManager:
    try:
        url = parse_url(proxy if "://" in proxy else f"http://{proxy}")
        login = make_headers(proxy_basic_auth=url.auth) if url.auth else None
        return urllib3.ProxyManager(url._replace(auth=None).url, maxsize=CONNECTIONS, timeout=TIMEOUT, proxy_headers=login)
    except (HTTPError, ValueError):
        raise SettingsError(
            f"the proxy that the environment names cannot be used: {proxy if '://' in proxy else f'http://{proxy}'}",
            expected="http_proxy and https_proxy as in http://host:3128",
            hint="fix or unset them, or put the host of the store into no_proxy",
        ) from None


def _follow(url: str, location: str) -> str:
    target = urlsplit(urljoin(url, location))
    if target.scheme not in ("http", "https") or not target.hostname:
        raise FinalError(f"the server leads to an address that begins with {target.scheme}://")
    if url.startswith("https:") and target.scheme == "http":
        raise FinalError("the server leads from https to http")
    return urlunsplit(target._replace(netloc=target.netloc.rpartition("@")[2], fragment=""))


def is_final(error: Exception) -> bool:
    """Whether a failure will stay: a certificate, another protocol at that port, an address that is none, a proxy that refuses."""
    cause = error.original_error if isinstance(error, ProxyError) else error
    inner = next((part for part in cause.args if isinstance(part, Exception)), cause)
    if isinstance(inner, BadStatusLine) and not isinstance(inner, RemoteDisconnected):
        return not "HTTP/".startswith(str(inner.args[0])[:5])  # a connection that ends within the first line leaves a beginning of it
    if isinstance(cause, SSLError) or isinstance(inner, ssl.SSLError):
        return not isinstance(inner, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLWantReadError)
    return isinstance(cause, LocationValueError) or bool(re.search(r"Tunnel connection failed: 4", str(inner)))


def why(error: Exception) -> str:
    """A failure in few words."""
    if isinstance(error, ProxyError):
        return f"the proxy: {why(error.original_error)}"
    if isinstance(error, NameResolutionError):
        return "there is no such host, or no name server answers"
    found: BaseException | None = next((part for part in error.args if isinstance(part, Exception)), None) or error.__cause__
    if isinstance(found, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {found.verify_message}"
    if isinstance(found, ssl.SSLError):
        return f"no https at that port, or not as it should be ({found.reason or found.strerror})"
    if isinstance(found, RemoteDisconnected):
        return "the server hung up"
    if isinstance(found, BadStatusLine):
        return "what is at that port does not speak http"
    if isinstance(found, OSError) and found.strerror:
        return found.strerror.lower()
    return str(error)[:300] or type(error).__name__
