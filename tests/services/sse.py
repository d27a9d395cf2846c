"""A client for server-sent events (WHATWG HTML, 9.2.6) that can drop its connection at any moment."""

import contextlib
import http.client
import json
import re
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.services.gunicorn import Gunicorn, Reply

LAST = ("answer", "error")
ID = re.compile(r"[1-9][0-9]*")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`at` is the time.monotonic() instant of its last line."""

    id: int
    event: str
    data: Any
    at: float


@dataclass
class EventStream:
    """An open response. `broken` says that the connection ended before the body did."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    request_id: str
    events: list[ServerEvent] = field(default_factory=list)
    comments: list[tuple[str, float]] = field(default_factory=list)
    broken: bool = False

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return dict(self.response.getheaders())

    @property
    def turn_id(self) -> str:
        """Of a stream that is read from its start."""
        while not self.events:
            assert self.next(), "the stream ended before its first event"
        return self.events[0].data["turn_id"]

    @property
    def last_id(self) -> int:
        return self.events[-1].id if self.events else 0

    @property
    def ended(self) -> bool:
        return bool(self.events) and self.events[-1].event in LAST

    def next(self, timeout: float = 30) -> ServerEvent | None:
        """The next event; None at the end of the stream."""
        fields: dict[str, str] = {}
        until = time.monotonic() + timeout
        while (line := self._line(until)) is not None:
            if line.startswith(":"):
                self.comments.append((line[1:].strip(), time.monotonic()))
            elif line:
                name, _, value = line.partition(": ")
                assert name in ("id", "event", "data"), line
                assert name not in fields, line
                fields[name] = value
            elif fields:
                assert fields.keys() == {"id", "event", "data"}, fields
                assert ID.fullmatch(fields["id"]), fields
                event = ServerEvent(int(fields["id"]), fields["event"], json.loads(fields["data"]), time.monotonic())
                self.events.append(event)
                return event
        return None

    def _line(self, until: float) -> str | None:
        left = until - time.monotonic()
        if left <= 0:
            # Comments alone are no events.
            raise TimeoutError
        if self.connection.sock:
            self.connection.sock.settimeout(left)
        try:
            line = self.response.readline()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            self.broken = True
            return None
        if not line.endswith(b"\n"):
            self.broken = self.broken or bool(line)
            return None
        return line.decode()[:-1]

    def until(self, event: str, count: int = 1, timeout: float = 30) -> list[ServerEvent]:
        """Reads on until `count` events of the kind have come in all."""
        while len(found := [e for e in self.events if e.event == event]) < count:
            assert self.next(timeout), f"the stream ended before {count} x {event}: {self.events}"
        return found

    def collect(self, timeout: float = 30) -> list[ServerEvent]:
        """All events, read to the end of the stream."""
        until = time.monotonic() + timeout
        while self.next(max(until - time.monotonic(), 0.01)):
            pass
        self.drop()
        return self.events

    def problem(self) -> Reply:
        """The response of a stream that was not begun."""
        reply = Reply(self.status, self.headers, self.response.read())
        self.connection.close()
        return reply

    def drop(self, *, reset: bool = False) -> None:
        """Closes the connection, by FIN or by RST, whatever is still to come."""
        sock = self.connection.sock
        if sock:
            with contextlib.suppress(OSError):
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    sock.shutdown(socket.SHUT_RDWR)
        self.response.close()
        self.connection.close()


def stream_open(
    server: Gunicorn,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 40,
) -> EventStream:
    """Returns once the response's head has come; `timeout` is for that."""
    request_id = uuid.uuid4().hex
    sent = {"Accept": "text/event-stream", "X-Request-ID": request_id}
    if bearer := server.token if token is None else token:
        sent["Authorization"] = f"Bearer {bearer}"
    if body is not None:
        sent["Content-Type"] = "application/json"
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    try:
        raw = None if body is None else json.dumps(body).encode()
        connection.request(method, path, raw, {**sent, **(headers or {})})
        # With `Connection: close` in the answer http.client would forget the socket.
        sock = connection.sock
        response = connection.getresponse()
    except BaseException:
        connection.close()
        raise
    connection.sock = sock
    return EventStream(connection, response, request_id)


def stream_post(server: Gunicorn, path: str = "/chat", *, question: str, **options: Any) -> EventStream:
    """`options` of stream_open by their names; any other is a field of the body."""
    named = {name: options.pop(name) for name in ("token", "headers", "timeout") if name in options}
    return stream_open(server, "POST", path, {"question": question, "stream": True, **options}, **named)


def stream_resume(server: Gunicorn, turn_id: str, last_id: int | None = None, **options: Any) -> EventStream:
    headers = {} if last_id is None else {"Last-Event-ID": str(last_id)}
    return stream_open(server, "GET", f"/chat/turns/{turn_id}/stream", headers=headers, **options)
