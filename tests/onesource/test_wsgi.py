"""A chunked body is read up to the limit."""

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest

from onesource.wsgi import DISCARDED_BYTES, ChunkedBody, application
from tests.services.gunicorn import Gunicorn

LIMIT = 10


def through(environ: dict[str, Any]) -> tuple[bytes, str | None]:
    """What an application behind ChunkedBody reads, and the length it is told."""
    seen: list[tuple[bytes, str | None]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        length = environ.get("CONTENT_LENGTH")
        seen.append((environ["wsgi.input"].read(int(length or 0)), length))
        return []

    ChunkedBody(app, LIMIT)(environ, lambda *args: None)
    return seen[0]


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "CHUNKED"])
def test_a_chunked_body_is_given_a_length(coding: str) -> None:
    environ = {"HTTP_TRANSFER_ENCODING": coding, "wsgi.input": io.BytesIO(b"four")}
    assert through(environ) == (b"four", "4")


def test_a_chunked_body_over_the_limit_is_kept_to_one_byte_more_and_the_rest_thrown_away() -> None:
    source = io.BytesIO(b"x" * 1000)
    assert through({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": source}) == (b"x" * 11, "11")
    assert source.read() == b""


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    source = io.BytesIO(b"x" * (DISCARDED_BYTES + 1_000_000))
    through({"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": source})
    assert source.read() != b""


def test_a_body_with_a_length_is_left_alone() -> None:
    source = io.BytesIO(b"x" * 1000)
    assert through({"CONTENT_LENGTH": "3", "wsgi.input": source}) == (b"xxx", "3")


def test_no_body_stays_none() -> None:
    assert through({"wsgi.input": io.BytesIO(b"left over")}) == (b"", None)


def test_the_application_bounds_chunked_bodies(settings: Any) -> None:
    assert isinstance(application, ChunkedBody)
    assert application.limit == settings.REQUEST_BODY_LIMIT == 64 * 1024


# Over a real server


def chunks(body: bytes, size: int = 4096) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def sent_chunked(server: Gunicorn, body: bytes) -> bytes:
    head = (
        f"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\nConnection: close\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(head.encode() + chunks(body))
        return connection.makefile("rb").readline()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"question": "How wide is a ramp?"}', b"200"),
        (b'{"question": 1}', b"400"),
        (b'{"question": "%s"}' % (b"x" * (64 * 1024)), b"413"),
    ],
)
def test_a_chunked_request_is_answered(gunicorn_server: Callable[..., Gunicorn], body: bytes, status: bytes) -> None:
    assert sent_chunked(gunicorn_server(), body).split()[1] == status
