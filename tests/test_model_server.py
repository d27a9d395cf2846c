"""The stand-in model server does what its modes say, seen from a plain HTTP client."""

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from chat.guard.schema import draft_fault
from tests.environment import ROOT
from tests.model_server import MODEL, MODES, PROSE, REFUSAL, ModelServer
from tests.services.process import free_port

ASKED = {"model": "m", "messages": [{"role": "user", "content": "How high?"}]}


class Client:
    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)

    def ask(self, **more: object) -> tuple[int, bytes]:
        self.connection.request("POST", "/v1/chat/completions", json.dumps({**ASKED, **more}), {"X-Mark": "7"})
        response = self.connection.getresponse()
        return response.status, response.read()

    def reply(self, **more: object) -> dict[str, object]:
        status, body = self.ask(**more)
        assert status == 200
        return json.loads(body)["choices"][0]


@pytest.fixture
def client(model_server: ModelServer) -> Iterator[Client]:
    made = Client(model_server.server_port)
    yield made
    made.connection.close()


def test_good_is_a_valid_draft(client):
    choice = client.reply()
    assert draft_fault(json.loads(choice["message"]["content"])) is None
    assert choice["finish_reason"] == "stop"


def test_an_answer_of_the_tests_own(client, model_server):
    model_server.reply(answer={"title": "Mine"})
    assert json.loads(client.reply()["message"]["content"]) == {"title": "Mine"}


def test_requests_are_on_record(client, model_server):
    client.ask(temperature=0)
    (received,) = model_server.requests
    assert received.path == "/v1/chat/completions"
    assert received.headers["x-mark"] == "7"
    assert model_server.bodies == [{**ASKED, "temperature": 0}]


def test_a_connection_is_kept(client, model_server):
    client.ask()
    client.ask()
    first, second = model_server.requests
    assert first.connection == second.connection


@pytest.mark.parametrize(("mode", "content"), [("prose", PROSE), ("null", None), ("filtered", "")])
def test_contents(client, model_server, mode, content):
    model_server.reply(mode)
    assert client.reply()["message"]["content"] == content


def test_raw_text(client, model_server):
    model_server.reply("text", text="```json\n{")
    assert client.reply()["message"]["content"] == "```json\n{"


def test_half_a_json_says_length(client, model_server):
    model_server.reply("half")
    choice = client.reply()
    assert choice["finish_reason"] == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice["message"]["content"])


def test_refusal(client, model_server):
    model_server.reply("refusal")
    assert client.reply()["message"] == {"role": "assistant", "content": None, "refusal": REFUSAL}


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_statuses(client, model_server, status):
    model_server.reply("status", status=status, message="why", headers={"Retry-After": "3"})
    answered, body = client.ask()
    assert (answered, json.loads(body)["error"]["message"]) == (status, "why")


def test_structured_output_refused_until_left_out(client, model_server):
    model_server.reply("no_response_format")
    status, body = client.ask(response_format={"type": "json_schema"})
    assert (status, b"response_format" in body) == (400, True)
    assert client.ask()[0] == 200


def test_no_choices(client, model_server):
    model_server.reply("empty")
    assert json.loads(client.ask()[1])["choices"] == []


@pytest.mark.parametrize("mode", ["malformed", "html"])
def test_what_is_no_json_at_all(client, model_server, mode):
    model_server.reply(mode)
    status, body = client.ask()
    assert status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_oversize(client, model_server):
    model_server.reply("oversize", size=300_000)
    assert len(client.ask()[1]) > 300_000


@pytest.mark.parametrize("where", ["headers", "body"])
def test_stall(client, model_server, where):
    model_server.reply("stall", seconds=0.3, where=where)
    started = time.monotonic()
    assert client.reply()["finish_reason"] == "stop"
    assert time.monotonic() - started >= 0.3


def test_stall_before_the_headers_sends_nothing(client, model_server):
    model_server.reply("stall", seconds=30)
    client.connection.timeout = 0.2
    with pytest.raises(TimeoutError):
        client.ask()


def test_drip(client, model_server):
    model_server.reply("drip", text="x", seconds=0.001)
    started = time.monotonic()
    assert client.reply()["message"]["content"] == "x"
    assert time.monotonic() - started > 0.2


def test_drop_before_the_headers(client, model_server):
    model_server.reply("drop")
    with pytest.raises(http.client.RemoteDisconnected):
        client.ask()


def test_drop_in_the_body(client, model_server):
    model_server.reply("drop", where="body")
    with pytest.raises(http.client.IncompleteRead):
        client.ask()


def test_drop_by_reset(client, model_server):
    model_server.reply("drop", reset=True)
    with pytest.raises(ConnectionResetError):
        client.ask()


def test_only_the_next_times(client, model_server):
    model_server.reply("status", status=500, times=2)
    assert [client.ask()[0] for _ in range(3)] == [500, 500, 200]


def test_streaming(client):
    _, body = client.ask(stream=True)
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line]
    assert events.pop() == b"[DONE]"
    assert json.loads(events.pop())["usage"]["completion_tokens"] == 60
    text = "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events)
    assert draft_fault(json.loads(text)) is None


def test_a_client_that_goes_away_is_counted(client, model_server):
    model_server.reply("drip", seconds=0.001)
    client.connection.request("POST", "/v1/chat/completions", json.dumps(ASKED))
    client.connection.close()
    until = time.monotonic() + 5
    while not model_server.disconnects and time.monotonic() < until:
        time.sleep(0.01)
    assert model_server.disconnects == 1


def test_reset_releases_who_is_stalled_and_forgets(client, model_server):
    model_server.reply("stall", seconds=30)
    client.connection.request("POST", "/v1/chat/completions", json.dumps(ASKED))
    while not model_server.requests:
        time.sleep(0.01)
    model_server.reset()
    assert client.connection.getresponse().read()
    assert model_server.requests == []


def test_an_unknown_mode_is_named(model_server):
    with pytest.raises(ValueError, match="unknown mode 'goood'"):
        model_server.reply("goood")
    assert "good" in MODES


def test_by_hand():
    port = free_port()
    command = [sys.executable, "-m", "tests.model_server", "--port", str(port), "--mode", "prose"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=dict(os.environ), text=True) as server:
        told = server.stdout.readline()
        client = Client(port)
        content = client.reply()["message"]["content"]
        client.connection.close()
        server.terminate()
    assert content == PROSE
    assert told == f"LLM_PROVIDER=openai LLM_MODEL={MODEL} LLM_BASE_URL=http://127.0.0.1:{port}/v1\n"
