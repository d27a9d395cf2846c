"""The worker class of production: gevent."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chat.asking import QUESTION, answer_of
from tests.model_server import MODEL

STREAMS = 24


@pytest.fixture(scope="module")
def gevent(gunicorn_server, model_server_running):
    environment = {
        "WORKER_CLASS": "gevent",
        "RATE_LIMIT_PER_USER": "1000",
        "LLM_PROVIDER": "openai",
        "LLM_BASE_URL": model_server_running.url,
        "LLM_MODEL": MODEL,
    }
    return gunicorn_server(environment, fresh=True)


def streamed(server) -> str:
    return server.post_json("/chat", {"question": QUESTION, "stream": True}).body.decode()


def test_turns_are_answered(gevent, model_server):
    first = answer_of(gevent.post_json("/chat", {"question": QUESTION}))
    session_id = first["meta"]["session_id"]
    again = answer_of(gevent.post_json("/chat", {"question": "And its width?", "session_id": session_id}))
    assert again["meta"]["turn"] == 2


def test_more_streams_at_once_than_there_are_workers_overlap(gevent, model_server):
    model_server.reply("slow", seconds=0.02)
    with ThreadPoolExecutor(STREAMS) as pool:
        bodies = list(pool.map(lambda _: streamed(gevent), range(STREAMS)))
    assert all(body.count("event: block") == 3 and "event: answer" in body for body in bodies)
    asked = [request.at for request in model_server.requests]
    # One after the other, the last would be asked for when the others had been answered.
    assert max(asked) - min(asked) < 0.02 * 50 * STREAMS / 2 / 2


def test_a_worker_told_to_stop_lets_a_stream_end(gevent, model_server):
    model_server.reply("slow", seconds=0.03)
    bodies: list[str] = []
    streaming = threading.Thread(target=lambda: bodies.append(streamed(gevent)))
    streaming.start()
    while not model_server.requests:
        streaming.join(0.05)
    for worker in range(2):
        gevent.kill(worker, signal.SIGTERM)
    streaming.join(30)
    assert "event: answer" in bodies[0]
