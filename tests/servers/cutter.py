"""A proxy that cuts connections after a random number of bytes, as bad networks do."""

import random
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit


class Cutter:
    """Passes bytes on to a server and cuts every connection after 1 to `most` bytes of its answers, drawn from a seed."""

    def __init__(self, url: str, most: int, seed: int = 0) -> None:
        parts = urlsplit(url)
        self._target, self._most, self._random = (parts.hostname, parts.port), most, random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client, self._random.randint(1, self._most)), daemon=True).start()

    def _pass_on(self, client: socket.socket, left: int) -> None:
        with client, socket.create_connection(self._target) as server:
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            try:
                while left > 0 and (data := server.recv(min(left, 65_536))):
                    client.sendall(data)
                    left -= len(data)
                if left == 0:
                    self.cuts += 1
            except OSError:
                pass
            for end in (client, server):  # closing alone waits for the other thread to stop reading
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass
