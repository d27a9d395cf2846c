"""An httpx transport whose whole exchange has one deadline and can be called off.

httpx bounds each socket operation by itself: a server that sends a byte a second would never time out. Here every
operation gets what is left of the budget, which travels in the request's extensions as `deadline` (time.monotonic()).
While it waits for the server, `tick` from the extensions is called a few times a second; what it raises ends the call.
"""

import contextvars
import ssl
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import httpcore
import httpx

TICK_SECONDS = 0.25
# There are no ticks while a connection is made, and a producer that gives no sign of life is taken for dead.
CONNECT_SECONDS = 4.0
_deadline: contextvars.ContextVar[float] = contextvars.ContextVar("provider_deadline")
_tick: contextvars.ContextVar[Callable[[], None] | None] = contextvars.ContextVar("provider_tick", default=None)


def _left(timeout: float | None) -> float:
    left = _deadline.get(float("inf")) - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the budget of the call is used up")
    return left if timeout is None else min(left, timeout)


def deadline_within(seconds: float) -> None:
    """Brings the deadline of this context's running exchange forward."""
    _deadline.set(min(_deadline.get(float("inf")), time.monotonic() + seconds))


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        tick = _tick.get()
        if tick is None:
            return self._stream.read(max_bytes, _left(timeout))
        while True:
            tick()
            # Raises when the budget is used up; what the read raises after that is the tick's.
            left = _left(timeout)
            with suppress(httpcore.ReadTimeout):
                return self._stream.read(max_bytes, min(left, TICK_SECONDS))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._stream.start_tls(ssl_context, server_hostname, min(_left(timeout), CONNECT_SECONDS))
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(
            self._backend.connect_tcp(
                host, port, min(_left(timeout), CONNECT_SECONDS), local_address, socket_options=socket_options
            )
        )

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.NetworkStream:
        return _DeadlineStream(self._backend.connect_unix_socket(path, _left(timeout), socket_options=socket_options))

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(min(seconds, _left(seconds)))


class DeadlineTransport(httpx.HTTPTransport):
    def __init__(self, *, max_connections: int) -> None:
        super().__init__()
        # httpx offers no public way to name the backend of its pool; httpcore does.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=max_connections,
            max_keepalive_connections=max_connections,
            keepalive_expiry=30,
            network_backend=_DeadlineBackend(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _deadline.set(request.extensions["deadline"])
        _tick.set(request.extensions.get("tick"))
        return super().handle_request(request)
