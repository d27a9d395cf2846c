"""What Django's test client cannot send: chunked bodies, and bytes that no HTTP library lets through."""

import http.client
import json
import socket

import pytest

from tests.chat.asking import ORACLE, answer_of, problem_of
from tests.services.gunicorn import Reply

HEADERS = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def server(gunicorn_server):
    return gunicorn_server({"RATE_LIMIT_PER_USER": "10000"})


def chunked(server, parts, **headers) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    sent = {**HEADERS, "Authorization": f"Bearer {server.token}", **headers}
    connection.request("POST", "/chat", iter(parts), sent, encode_chunked=True)
    response = connection.getresponse()
    found = Reply(response.status, dict(response.getheaders()), response.read())
    connection.close()
    return found


def raw(server, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """The status and body of what a socket gets back."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


def test_a_chunked_body_is_read(server):
    reply = chunked(server, [b'{"question":', b'"How high must', b' a handrail be?"}'])
    assert answer_of(reply)["meta"]["turn"] == 1


def test_a_chunked_body_of_64_kib_is_read(server):
    body = b'{"question":"?"}'
    assert answer_of(chunked(server, [body, b" " * (65_536 - len(body))]))["meta"]["turn"] == 1


@pytest.mark.parametrize("size", [65_537, 1_000_000])
def test_a_chunked_body_over_64_kib_is_413(server, size):
    body = b'{"question":"?"}'
    problem_of(chunked(server, [body, b" " * (size - len(body))]), 413, "body_too_large")


@pytest.mark.parametrize("parts", [[b"{"], [b'{"question":', b'"\xff"}'], [b"[]"]])
def test_a_malformed_chunked_body_is_400(server, parts):
    problem_of(chunked(server, parts), 400, "malformed_json")


def test_a_chunked_body_of_another_type_is_415(server):
    problem_of(chunked(server, [b"question=?"], **{"Content-Type": "text/plain"}), 415)


def test_a_body_of_1_mb_is_413(server):
    problem_of(server.post_json("/chat", b" " * 1_000_000, headers=HEADERS), 413, "body_too_large")


def test_garbage_bytes_in_the_authorization_header_are_401(server):
    head = (
        "POST /chat HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer \xff\xfe\xe9\n"
        "Content-Type: application/json\nContent-Length: 16\nConnection: close\n\n"
    )
    status, body = raw(server, head, b'{"question":"?"}')
    assert status == 401
    assert json.loads(body)["code"] == "invalid_token"


def test_garbage_bytes_in_the_idempotency_key_are_400(server):
    head = (
        f"POST /chat HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {server.token}\nIdempotency-Key: \xff\xe9\n"
        "Content-Type: application/json\nContent-Length: 16\nConnection: close\n\n"
    )
    status, body = raw(server, head, b'{"question":"?"}')
    assert status == 400
    assert json.loads(body)["code"] == "bad_idempotency_key"


def test_a_body_shorter_than_promised_records_nothing_and_harms_nobody(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(
            f"POST /chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.token}\r\n"
            'Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"question":"?"}'.encode()
        )
    ORACLE.validate(server.post_json("/chat", {"question": "?"}).json())


def test_a_length_and_chunks_together_are_refused(server):
    head = (
        f"POST /chat HTTP/1.1\nHost: 127.0.0.1\nAuthorization: Bearer {server.token}\n"
        "Content-Type: application/json\nContent-Length: 5\nTransfer-Encoding: chunked\nConnection: close\n\n"
    )
    status, _ = raw(server, head, b'10\r\n{"question":"?"}\r\n0\r\n\r\n')
    assert status in (200, 400)
