"""A worker that was told to stop says so while it finishes what it has begun."""

import http.client
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from tests.model_server import MODEL, ModelServer
from tests.services.gunicorn import Gunicorn, Reply


@pytest.fixture
def server(gunicorn_server: Callable[..., Gunicorn], model_server: ModelServer) -> Iterator[Gunicorn]:
    env = {"LLM_PROVIDER": "openai", "LLM_BASE_URL": model_server.url, "LLM_MODEL": MODEL, "LLM_TIMEOUT_MS": "20000"}
    made = gunicorn_server(env, fresh=True, workers=1)
    yield made
    made.stop()


def readyz(kept: http.client.HTTPConnection) -> int:
    kept.request("GET", "/readyz")
    response = kept.getresponse()
    response.read()
    return response.status


def test_from_sigterm_on_it_is_not_ready_and_the_question_at_hand_is_answered(
    server: Gunicorn, model_server: ModelServer
) -> None:
    model_server.reply("stall", seconds=20)
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(server.post_json("/chat", {"question": "How high?"})))
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)) as kept:
        assert readyz(kept) == 200
        asking.start()
        server.process.wait_ready(lambda: bool(model_server.requests), seconds=20)
        server.kill(0, signal.SIGTERM)
        try:
            server.process.wait_ready(lambda: readyz(kept) == 503, seconds=5)
        finally:
            model_server.released.set()
            asking.join(30)
    assert [reply.status for reply in replies] == [200]
