"""A network that fails on request: a TCP proxy in front of a service."""

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal

Mode = Literal["pass", "slow", "silent", "reset"]


class Proxy:
    """pass; slow (each piece takes `seconds` longer); silent (connections stay open and nothing passes: a cut cable);
    reset (open connections are reset and new ones at once as well)."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._mode: Mode = "pass"
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._closing = False
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def become(self, mode: Mode, seconds: float = 0.0) -> None:
        with self._changed:
            self._mode, self._seconds = mode, seconds
            self._changed.notify_all()
            left = list(self._open) if mode == "reset" else []
        for connection in left:
            _reset(connection)

    def stop(self) -> None:
        self._closing = True
        self.become("reset")
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._mode == "reset":
            _reset(client)
            return
        self._pass_on()
        try:
            upstream = socket.create_connection(("127.0.0.1", self._upstream), timeout=5)
        except OSError:
            _reset(client)
            return
        upstream.settimeout(None)
        with self._changed:
            self._open |= {client, upstream}
        back = threading.Thread(target=self._pump, args=(upstream, client), daemon=True)
        back.start()
        self._pump(client, upstream)
        back.join()
        with self._changed:
            self._open -= {client, upstream}
        for connection in (client, upstream):
            connection.close()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                self._pass_on()
                target.sendall(piece)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _pass_on(self) -> None:
        """Returns when a piece may pass."""
        with self._changed:
            self._changed.wait_for(lambda: self._mode != "silent" or self._closing)
            seconds = self._seconds if self._mode == "slow" else 0.0
        time.sleep(seconds)


def _reset(connection: socket.socket) -> None:
    """Lingering for zero seconds makes close() send RST; shutdown() wakes whoever reads from it."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
