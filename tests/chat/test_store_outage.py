"""A hot store refusing, killed or stopped: every turn is answered with its context, and hardly slower."""

import os
import signal
import statistics
import time
import uuid

import pytest

from tests.chat.asking import answer_of
from tests.services import need
from tests.services.mongo import mongo_start
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


def stop(server):
    os.kill(server.process.pid, signal.SIGSTOP)


def kill(server):
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.popen.wait()


@pytest.fixture
def mongo():
    """A MongoDB that this test may harm."""
    need("mongo")
    server = mongo_start(mine=True)
    yield server
    server.stop()


# Which store is read, whether both are written, and which of them is harmed.
SETUPS = {
    "mongo": ("mongo", "0", "mongo"),
    "both, the primary": ("mongo", "1", "mongo"),
    "both, the secondary": ("mongo", "1", "redis"),
}


@pytest.mark.parametrize("harm", [kill, stop])
@pytest.mark.parametrize("setup", SETUPS)
def test_an_outage_of_mongo_or_of_one_of_two_costs_no_turn_and_no_context(gunicorn_server, redis, mongo, setup, harm):
    primary, dual, harmed = SETUPS[setup]
    env = {"REDIS_URL": redis.url, "MONGO_URL": mongo.url, "CONV_STORE_PRIMARY": primary, "CONV_DUAL_WRITE": dual}
    server = gunicorn_server(env | {"RATE_LIMIT_PER_USER": "10000"}, workers=1, fresh=True)
    session_id = str(uuid.uuid4())
    seconds, _ = turns(server, 8, session_id)
    usual = statistics.median(seconds[2:])
    harm({"redis": redis, "mongo": mongo}[harmed])
    seconds, answers = turns(server, 10, session_id)
    assert [answer["meta"]["turn"] for answer in answers] == list(range(9, 19))
    assert contexts(server).keys() <= {"hit", "rebuilt"}
    assert statistics.median(seconds) - usual <= SLOWER_SECONDS
    ready = server.get("/readyz")
    assert (ready.status, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["health_checks"][harmed]["status"] == "unhealthy"
    server.stop()


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
    # A turn that waits for Redis waits for 0.2 s.
    assert statistics.median(seconds) - usual <= 0.15


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


def test_with_gevent_both_stores_are_used_and_an_outage_of_one_is_got_over(gunicorn_server, redis, mongo):
    """PyMongo's monitors and locks, and the deadline of Redis, are greenlets' there."""
    env = {"REDIS_URL": redis.url, "MONGO_URL": mongo.url, "CONV_STORE_PRIMARY": "mongo", "CONV_DUAL_WRITE": "1"}
    server = gunicorn_server(env | {"RATE_LIMIT_PER_USER": "10000", "WORKER_CLASS": "gevent"}, workers=1, fresh=True)
    session_id = str(uuid.uuid4())
    turns(server, 4, session_id)
    assert contexts(server) == {"hit": 3}
    stop(mongo)
    _, answers = turns(server, 6, session_id)
    assert [answer["meta"]["turn"] for answer in answers] == list(range(5, 11))
    assert contexts(server).keys() == {"hit", "rebuilt"}
    server.stop()
