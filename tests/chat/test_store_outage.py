"""Redis refusing, killed or stopped: every turn is answered with its context, and hardly slower."""

import os
import signal
import statistics
import time
import uuid

import pytest

from tests.chat.asking import answer_of
from tests.services import need
from tests.services.redis import redis_start

QUESTION = {"question": "How high must a handrail be in a house?"}
SLOWER_SECONDS = 0.3


@pytest.fixture
def redis():
    """A Redis that this test may harm."""
    need("redis")
    server = redis_start()
    yield server
    server.stop()


@pytest.fixture
def server(gunicorn_server, redis):
    env = {"REDIS_URL": redis.url, "RATE_LIMIT_PER_USER": "10000", "CHAT_CONCURRENCY": "100"}
    return gunicorn_server(env, workers=1, fresh=True)


def turns(server, count: int, session_id: str) -> tuple[list[float], list[dict]]:
    """Seconds and answers of turns in one session."""
    seconds, answers = [], []
    for _ in range(count):
        started = time.monotonic()
        reply = server.post_json("/chat", {**QUESTION, "session_id": session_id})
        seconds.append(time.monotonic() - started)
        answers.append(answer_of(reply))
    return seconds, answers


def contexts(server) -> dict[str, float]:
    found = {}
    for line in server.get("/metrics").body.decode().splitlines():
        if line.startswith("onesource_context_loads_total{"):
            found[line.split('"')[1]] = float(line.rpartition(" ")[2])
    return found


def stop(redis):
    os.kill(redis.process.pid, signal.SIGSTOP)


def kill(redis):
    os.kill(redis.process.pid, signal.SIGKILL)
    redis.process.popen.wait()


@pytest.mark.parametrize("harm", [kill, stop])
def test_an_outage_costs_no_turn_no_context_and_little_time(server, redis, harm):
    session_id = str(uuid.uuid4())
    seconds, _ = turns(server, 8, session_id)
    usual = statistics.median(seconds[2:])
    harm(redis)
    seconds, answers = turns(server, 10, session_id)
    assert [answer["meta"]["turn"] for answer in answers] == list(range(9, 19))
    assert contexts(server).keys() <= {"hit", "rebuilt"}
    assert max(seconds) - usual <= SLOWER_SECONDS, [round(s - usual, 3) for s in seconds]


def test_while_redis_is_stopped_the_breaker_keeps_most_turns_as_quick_as_before(server, redis):
    session_id = str(uuid.uuid4())
    seconds, _ = turns(server, 8, session_id)
    usual = statistics.median(seconds[2:])
    stop(redis)
    seconds, _ = turns(server, 15, session_id)
    assert statistics.median(seconds) - usual <= 0.05


def test_a_redis_that_is_back_is_used_again(server, redis):
    session_id = str(uuid.uuid4())
    turns(server, 2, session_id)
    stop(redis)
    turns(server, 4, session_id)
    os.kill(redis.process.pid, signal.SIGCONT)
    before = contexts(server)["hit"]
    until = time.monotonic() + 20
    while contexts(server)["hit"] < before + 2:
        assert time.monotonic() < until
        turns(server, 1, session_id)
    assert server.get("/readyz").json()["health_checks"]["redis"]["status"] == "healthy"


def test_a_server_that_starts_without_its_redis_answers(gunicorn_server):
    server = gunicorn_server({"REDIS_URL": "redis://127.0.0.1:1/0", "RATE_LIMIT_PER_USER": "3"})
    token = server.token_for("without-redis")
    session_id = str(uuid.uuid4())
    replies = [server.post_json("/chat", {**QUESTION, "session_id": session_id}, token=token) for _ in range(2)]
    assert [answer_of(reply)["meta"]["turn"] for reply in replies] == [1, 2]
    ready = server.get("/readyz")
    assert (ready.status, ready.json()["status"]) == (200, "degraded")
