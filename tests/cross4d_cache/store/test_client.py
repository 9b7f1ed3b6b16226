"""How web servers are asked: proxies, redirects, logins, and what is not worth a second attempt."""

import contextlib
import datetime
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from cross4d_cache.errors import CacheError, CacheFormatError, CacheUnreachableError, SettingsError
from cross4d_cache.sharing.pack import Pack
from cross4d_cache.sharing.pull import Pull
from cross4d_cache.store import open_cache
from cross4d_cache.store.storage.blobs import FOLDER
from cross4d_cache.store.storage.client import FinalError, _follow
from cross4d_cache.store.storage.login import TOKEN
from cross4d_cache.store.storage.waiting import WAIT_MINUTES, Patience
from tests.cross4d_cache.store.store_examples import two_parts, write_store
from tests.servers.liar import Handler, Server, honest

PAGE = b"\n<!DOCTYPE html><html><body>Log in</body></html>"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of whoever runs the tests; and nobody may wait."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", TOKEN, WAIT_MINUTES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv(FOLDER, str(tmp_path / "blobs"))
    monkeypatch.setattr(Patience, "_pause", _no_second_attempt)


def _no_second_attempt(patience: Patience, seconds: float, stops: int) -> NoReturn:
    raise AssertionError("asked twice")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_store(tmp_path_factory.mktemp("served") / "store.zarr", two_parts())
    list(Pack(open_cache(path), path.with_suffix(".zip")).run())
    return path


@pytest.fixture
def server(store: Path) -> Iterator[Server]:
    server = Server(store.parent)
    yield server
    server.close()


def sent(server: Server, name: str = "authorization") -> set[str | None]:
    """What the server was sent in a header."""
    return {headers.get(name) for _, headers in server.asked}


def basic(login: str) -> str:
    return f"Basic {b64encode(login.encode()).decode()}"


def test_a_proxy_is_asked_and_no_proxy_is_heeded(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:pw@"))
    cache = open_cache("http://data.example.org/store.zarr")
    assert cache.manifest == open_cache(store).manifest
    assert {line for line, _ in server.asked} == {"http://data.example.org/store.zarr/zarr.json"}
    assert sent(server, "proxy-authorization") == {basic("me:pw")}
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    open_cache(f"{server.url}/store.zarr")
    assert server.asked[-1][0] == "/store.zarr/zarr.json"


def test_a_proxy_that_refuses_or_is_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "do_CONNECT", lambda handler: handler.give(403, b""), raising=False)
    monkeypatch.setenv("https_proxy", server.url)
    with pytest.raises(CacheUnreachableError, match="403"):
        open_cache("https://data.example.org/store.zarr")
    monkeypatch.setenv("https_proxy", "socks5://me:pw@127.0.0.1:1080")
    with pytest.raises(SettingsError, match=r"proxy.*socks5://127") as caught:
        open_cache("https://data.example.org/store.zarr")
    assert "pw" not in str(caught.value)


def test_the_login_of_an_address_a_token_and_netrc(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"{server.url}/store.zarr"
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password p:w\n")
    open_cache(url)
    assert sent(server) == {basic("me:p:w")}
    server.asked.clear()
    monkeypatch.setenv(TOKEN, f"https://other.example.org=abc {server.url}=x-Y.z==")
    open_cache(url)
    assert sent(server) == {"Bearer x-Y.z=="}
    server.asked.clear()
    open_cache(url.replace("//", "//you:there@"))
    assert sent(server) == {basic("you:there")}


def test_a_token_of_another_origin_and_a_netrc_of_another_host_stay_here(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine data.example.org login me password pw\ndefault login a password b\n")
    monkeypatch.setenv(TOKEN, "http://127.0.0.1:9=abc https://127.0.0.1=abc")
    open_cache(f"{server.url}/store.zarr")
    assert sent(server) == {None}


@pytest.mark.parametrize(
    "said", ["abc", "data.example.org=abc", "https://=abc", "https://host=", "https://host:x=abc", "https://host=a\x00c"]
)
def test_tokens_that_are_none(server: Server, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\x00" in said:
        said = said.replace("\x00", "ä")
    monkeypatch.setenv(TOKEN, said)
    with pytest.raises(SettingsError, match=TOKEN) as caught:
        open_cache(f"{server.url}/store.zarr")
    assert said not in str(caught.value)


def test_no_login_goes_where_a_server_leads(server: Server, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Server(store.parent)

    def lead_on(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        handler.give(302, b"", Location=f"{other.url.replace('//', '//alice:there@')}{handler.path}")

    server.answer = lead_on
    monkeypatch.setenv(TOKEN, f"{server.url}=abc")
    open_cache(f"{server.url}/store.zarr")
    open_cache(f"{server.url}/store.zarr".replace("//", "//me:pw@"))
    other.close()
    assert sent(server) == {"Bearer abc", basic("me:pw")}
    assert sent(other) == {None}


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/passwd", "https:///x"])
def test_where_a_server_may_not_lead(server: Server, location: str) -> None:
    server.answer = lambda handler, data, start, stop: handler.give(302, b"", Location=location)
    with pytest.raises(CacheUnreachableError, match="leads to"):
        open_cache(f"{server.url}/store.zarr")


def test_a_server_may_not_lead_from_https_to_http() -> None:
    with pytest.raises(FinalError, match="from https to http"):
        _follow("https://host/store.zarr/zarr.json", "http://host/store.zarr/zarr.json")
    assert _follow("https://host/a/b", "../c?d=e#f") == "https://host/c?d=e"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_answers_that_are_final(server: Server, status: int) -> None:
    server.answer = lambda handler, data, start, stop: handler.give(status, b"")
    with pytest.raises(CacheError, match=str(status)) as caught:
        open_cache(f"{server.url}/store.zarr")
    assert ("netrc" in str(caught.value)) == (status in (401, 403))


@contextlib.contextmanager
def one_answer(answer: bytes, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port at which every connection gets these bytes, whatever it says."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with contextlib.suppress(OSError), client:
                    if context is not None:
                        client = context.wrap_socket(client, server_side=True)
                    client.recv(4096)
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_RDWR)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def test_another_protocol_at_that_port(server: Server) -> None:
    with one_answer(b"SSH-2.0-OpenSSH_9.2\r\n") as port, pytest.raises(CacheUnreachableError, match="does not speak http"):
        open_cache(f"http://127.0.0.1:{port}/store.zarr")
    with one_answer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, pytest.raises(CacheUnreachableError, match="no https at that port"):
        open_cache(f"https://127.0.0.1:{port}/store.zarr")


def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    pem = tmp_path / "both.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with one_answer(b"", context) as port, pytest.raises(CacheUnreachableError, match="certificate is not trusted"):
        open_cache(f"https://localhost:{port}/store.zarr")


@pytest.mark.parametrize("path", ["/records/1/files/store.zip/content?download=1", "/download", "/my%20file"])
def test_a_zip_whose_address_ends_otherwise(server: Server, store: Path, tmp_path: Path, path: str) -> None:
    data = store.with_suffix(".zip").read_bytes()
    file = tmp_path / "web" / path.partition("?")[0].lstrip("/").replace("%20", " ")
    file.parent.mkdir(parents=True)
    file.write_bytes(data)
    server.root = tmp_path / "web"
    list(Pull(f"{server.url}{path}", tmp_path / "out").run())
    assert open_cache(tmp_path / "out").manifest == open_cache(store).manifest
    file.write_bytes(b"something else" * 100)
    with pytest.raises(CacheFormatError, match="is no zip of a store"):
        open_cache(f"{server.url}{path}")


@pytest.mark.parametrize("name", ["store.zarr", "store.zip", "download"])
def test_a_page_in_place_of_data(server: Server, name: str) -> None:
    def log_in(handler: Handler, status: int, body: bytes, **headers: str) -> None:
        handler.send_response(200)
        for key, value in (("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(PAGE)))):
            handler.send_header(key, value)
        handler.end_headers()
        handler.wfile.write(PAGE)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handler, "give", log_in)
        with pytest.raises(CacheUnreachableError, match="a web page, perhaps a login"):
            open_cache(f"{server.url}/{name}")


def test_a_page_in_the_middle_is_no_damage(server: Server, store: Path) -> None:
    """A session has run out: nothing is wrong with the store."""
    cache = open_cache(f"{server.url}/store.zarr")
    server.answer = lambda handler, data, start, stop: handler.give(200, PAGE, Content_Type="text/html")
    with pytest.raises(CacheUnreachableError, match="a web page"):
        cache.part(0)


def test_data_that_a_script_calls_a_page(server: Server, store: Path) -> None:
    def answer(handler: Handler, data: bytes, start: int, stop: int | None) -> None:
        handler.give(200, data, Content_Type="text/html")

    server.answer = answer
    assert open_cache(f"{server.url}/store.zarr").part(0).infos == open_cache(store).part(0).infos
    server.answer = honest
