"""Streams that are dropped and resumed, on the same worker and on others: no event twice, none left out."""

import os
import random
import signal
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from redis import Redis

from tests.chat.asking import QUESTION, answer_of, problem_of
from tests.chat.streaming import (
    BLOCKS,
    blocks_of,
    draft_of,
    ended_well,
    model_env,
    paused_stream,
    recorded_answer,
    resumed,
    rows,
    tailed_elsewhere,
    turn_ended,
    workers_signal,
)
from tests.services import need
from tests.services.gunicorn import Gunicorn
from tests.services.redis import redis_start
from tests.services.sse import EventStream, stream_post, stream_resume


@pytest.fixture(params=["database", "redis"])
def server(request, gunicorn_server, model_server) -> Gunicorn:
    """Two workers, with Redis and without."""
    more = {} if request.param == "database" else {"REDIS_URL": request.getfixturevalue("redis_server").url}
    return gunicorn_server(model_env(model_server, **more))


@pytest.fixture(scope="module")
def mortal_redis():
    need("redis")
    server = redis_start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pair(gunicorn_server, model_server_running, postgres_server, mortal_redis) -> tuple[Gunicorn, Gunicorn]:
    """Two servers of one worker on one PostgreSQL: what one has begun is elsewhere for the other."""
    env, database = model_env(model_server_running, REDIS_URL=mortal_redis.url), postgres_server.database_create()
    first = gunicorn_server(env, workers=1, database_url=database, fresh=True)
    second = gunicorn_server({**env, "VAR_DIR": first.env["VAR_DIR"]}, workers=1, database_url=database, fresh=True)
    return first, second


def other_worker(server: Gunicorn, stream: EventStream) -> EventStream:
    """The stream resumed on the worker that did not begin it: while one of the two stands still, the other accepts."""
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGSTOP)
        try:
            again = resumed(server, stream)
        finally:
            os.kill(pid, signal.SIGCONT)
        if tailed_elsewhere(server, again):
            return again
        again.drop(reset=True)
    raise AssertionError("no connection came to the other worker")


def test_a_dropped_stream_is_resumed_on_the_other_worker(server, model_server):
    stream = paused_stream(server, model_server, 3)
    stream.drop(reset=True)
    again = other_worker(server, stream)
    model_server.released.set()
    answer = ended_well(again.collect())
    assert blocks_of(again.events) == draft_of()["blocks"] == answer["blocks"]
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer
    assert turn_ended(server, stream)[0] == "turn.completed"


def test_a_dropped_stream_is_resumed_on_another_server(pair, model_server):
    first, second = pair
    stream = paused_stream(first, model_server, 3)
    stream.drop()
    again = resumed(second, stream, token=first.token)
    whole = stream_resume(second, stream.turn_id, token=first.token)
    assert whole.turn_id == stream.turn_id
    model_server.released.set()
    answer = ended_well(again.collect())
    assert answer["blocks"] == draft_of()["blocks"]
    # And from the very start, by one who has seen nothing.
    assert ended_well(whole.collect()) == answer
    assert [(e.id, e.event) for e in whole.events] == [(e.id, e.event) for e in again.events]
    assert tailed_elsewhere(second, again)


def test_many_drop_and_resume_at_random_and_each_gets_all(server, model_server):
    model_server.reply("slow", answer=draft_of(), seconds=0.02)
    seed = random.randrange(10**6)

    def restless(number: int) -> list:
        chance = random.Random(seed + number)
        stream = stream_post(server, question=QUESTION)
        while not stream.ended:
            for _ in range(chance.randint(1, 4)):
                if not stream.next():
                    break
            assert not stream.broken
            if not stream.ended:
                stream.drop(reset=chance.random() < 0.5)
                stream = resumed(server, stream)
                assert stream.status == 200
        stream.drop()
        return stream.events

    with ThreadPoolExecutor(12) as pool:
        for events in pool.map(restless, range(12)):
            assert ended_well(events)["blocks"] == draft_of()["blocks"], f"seed {seed}"


def test_after_the_end_the_rest_is_given_and_then_nothing(pair, model_server):
    model_server.reply(answer=draft_of())
    stream = stream_post(pair[0], question=QUESTION)
    ended_well(stream.collect())
    for server in pair:
        for seen in range(len(stream.events) + 1):
            again = stream_resume(server, stream.turn_id, seen, token=pair[0].token)
            if seen == len(stream.events):
                assert (again.status, again.problem().body) == (204, b"")
                continue
            missing = [(e.id, e.event, e.data) for e in again.collect()]
            assert missing == [(e.id, e.event, e.data) for e in stream.events[seen:]]
        assert stream_resume(server, stream.turn_id, 10**8, token=pair[0].token).status == 204


def test_a_turn_that_was_not_streamed_gives_its_answer(pair, model_server):
    answer = answer_of(pair[0].post_json("/chat", {"question": QUESTION}))
    turn_id = answer["meta"]["turn_id"]
    started, last = stream_resume(pair[1], turn_id, token=pair[0].token).collect()
    assert (started.event, started.data["turn_id"]) == ("started", turn_id)
    assert (last.event, last.data) == ("answer", answer)
    # An EventSource that comes back is told not to come again.
    assert stream_resume(pair[1], turn_id, last.id, token=pair[0].token).status == 204


def test_after_the_stream_is_forgotten_the_recorded_answer_is_given(gunicorn_server, model_server):
    server = gunicorn_server(model_env(model_server))
    model_server.reply(answer=draft_of())
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    rows_age(server, stream.turn_id)
    wait_swept(server, stream.turn_id)
    (last,) = stream_resume(server, stream.turn_id, 3).collect()
    assert (last.event, last.data) == ("answer", answer)
    assert stream_resume(server, stream.turn_id, last.id).status == 204
    assert server.request("DELETE", f"/chat/sessions/{answer['meta']['session_id']}").status == 204
    problem_of(stream_resume(server, stream.turn_id, 3).problem(), 410, "content_gone")


def rows_age(server: Gunicorn, turn_id: str) -> None:
    """Lets eleven minutes pass for a stream."""
    past = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-11 minutes')"
    with closing(sqlite3.connect(server.var / "onesource.sqlite3", timeout=10)) as database, database:
        for table, column in {"chat_stream": "started_at", "chat_stream_event": "created_at"}.items():
            database.execute(f"UPDATE {table} SET {column} = {past} WHERE turn_id = ?", [uuid.UUID(turn_id).hex])


def wait_swept(server: Gunicorn, turn_id: str) -> None:
    until = time.monotonic() + 15
    held = True
    while held:
        assert time.monotonic() < until
        time.sleep(0.1)
        held = any(
            rows(server, f"SELECT 1 FROM {table} WHERE turn_id = %s", uuid.UUID(turn_id).hex)
            for table in ("chat_stream", "chat_stream_event")
        )


def test_a_redis_that_comes_back_empty_costs_no_event(pair, model_server, mortal_redis):
    first, second = pair
    stream = paused_stream(first, model_server, 4)
    with Redis(port=mortal_redis.port) as client:
        client.flushall()
    behind = stream_resume(second, stream.turn_id, 2, token=first.token)
    behind.events = stream.events[:2]
    model_server.released.set()
    assert len(blocks_of(stream.collect())) == BLOCKS
    answer = ended_well(behind.collect())
    assert answer["blocks"] == draft_of()["blocks"]


# Redis is gone from here on.


def test_a_redis_that_dies_costs_no_event(pair, model_server, mortal_redis):
    first, second = pair
    stream = paused_stream(first, model_server, 4)
    watched = resumed(second, stream, token=first.token)
    mortal_redis.process.popen.kill()
    mortal_redis.process.popen.wait()
    behind = stream_resume(second, stream.turn_id, 2, token=first.token)
    behind.events = stream.events[:2]
    model_server.released.set()
    for client in (stream, watched, behind):
        answer = ended_well(client.collect())
        assert blocks_of(client.events) == draft_of()["blocks"] == answer["blocks"]
    late = stream_resume(second, stream.turn_id, token=first.token)
    assert ended_well(late.collect()) == answer
    assert blocks_of(late.events) == draft_of()["blocks"]


@pytest.mark.parametrize("whom", ["workers", "master"])
def test_a_graceful_stop_lets_a_running_stream_end(stopping, model_server, whom):
    server = stopping
    server.wait_workers()
    watched = paused_stream(server, model_server, 3)
    dropped = paused_stream(server, model_server, 3)
    dropped.drop(reset=True)
    if whom == "master":
        server.process.popen.send_signal(signal.SIGTERM)
    else:
        workers_signal(server, signal.SIGTERM)
    threading.Timer(1, model_server.released.set).start()
    assert ended_well(watched.collect())["blocks"] == draft_of()["blocks"]
    for stream in (watched, dropped):
        assert turn_ended(server, stream)[0] == "turn.completed"


@pytest.fixture(scope="module")
def stopping(gunicorn_server, model_server_running) -> Gunicorn:
    return gunicorn_server(model_env(model_server_running), workers=1, fresh=True)
