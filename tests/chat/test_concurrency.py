"""Many at once, on real servers: numbers without gap or duplicate, one turn for one key, and no queue without end."""

import json
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from chat.api.admission import Admission, Busy
from tests.chat.asking import answer_of, problem_of

THREADS = 24
ENV = {"RATE_LIMIT_PER_USER": "100000", "CHAT_CONCURRENCY": "200"}
BODY = {"question": "How high must a handrail be in a house?"}


@pytest.fixture(params=["postgresql", "sqlite"])
def server(request, gunicorn_server):
    if request.param == "sqlite":
        return gunicorn_server(ENV)
    postgres = request.getfixturevalue("postgres_server")
    url = request.getfixturevalue("concurrency_database")
    return gunicorn_server({**ENV, "DATABASE_POOL_SIZE": "32"}, database_url=url(postgres))


@pytest.fixture(scope="module")
def concurrency_database():
    made: list[str] = []

    def url(postgres) -> str:
        if not made:
            made.append(postgres.database_create())
        return made[0]

    return url


def together(count: int, act) -> list:
    """The results of `count` calls that start at once."""
    gate = threading.Barrier(count)

    def run(n):
        gate.wait(10)
        return act(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def rows(server, sql: str) -> list[tuple]:
    if url := server.env.get("DATABASE_URL"):
        import psycopg

        with psycopg.connect(url) as database:
            return database.execute(sql).fetchall()
    database = sqlite3.connect(server.var / "onesource.sqlite3")
    try:
        return database.execute(sql).fetchall()
    finally:
        database.close()


def test_turns_of_one_session_at_once_are_numbered_without_gap_or_duplicate(server):
    session_id = str(uuid.uuid4())
    replies = together(THREADS, lambda n: server.post_json("/chat", {**BODY, "session_id": session_id}))
    answers = [answer_of(reply) for reply in replies]
    assert sorted(answer["meta"]["turn"] for answer in answers) == list(range(1, THREADS + 1))
    found = answer_session(server, session_id)
    assert [turn["turn"] for turn in found["conversation"]] == list(range(1, THREADS + 1))
    events = rows(server, f"SELECT stream_seq FROM audit_event WHERE stream = 'session:{session_id}'")
    assert sorted(seq for (seq,) in events) == list(range(1, THREADS + 1))


def answer_session(server, session_id: str) -> dict:
    reply = server.get(f"/chat/sessions/{session_id}")
    assert reply.status == 200
    return reply.json()


def test_sessions_that_start_at_once_are_all_there(server):
    replies = together(THREADS, lambda n: server.post_json("/chat", BODY))
    sessions = {answer_of(reply)["meta"]["session_id"] for reply in replies}
    assert len(sessions) == THREADS


def test_two_callers_who_start_one_session_at_once_do_not_share_it(server):
    tokens = [server.token_for("first"), server.token_for("second")]
    for _ in range(5):
        body = {**BODY, "session_id": str(uuid.uuid4())}
        replies = together(8, lambda n, body=body: server.post_json("/chat", body, token=tokens[n % 2]))
        by_caller = [{reply.status for reply in replies[caller::2]} for caller in (0, 1)]
        assert sorted(by_caller, key=min) == [{200}, {404}]


def test_one_key_at_once_is_one_turn(server):
    body, key = {**BODY, "session_id": str(uuid.uuid4())}, {"Idempotency-Key": uuid.uuid4().hex}
    replies = together(12, lambda n: server.post_json("/chat", body, headers=key))
    statuses = {reply.status for reply in replies}
    answers = [answer_of(reply) for reply in replies if reply.status == 200]
    assert statuses <= {200, 409}
    assert len({answer["meta"]["turn_id"] for answer in answers}) == 1
    assert len(answer_session(server, body["session_id"])["conversation"]) == 1


def test_a_session_deleted_while_it_is_asked_keeps_no_text(server):
    session_id = str(uuid.uuid4())
    answer_of(server.post_json("/chat", {**BODY, "session_id": session_id}))

    def act(n):
        if n == 0:
            return server.request("DELETE", f"/chat/sessions/{session_id}").status
        return server.post_json("/chat", {**BODY, "session_id": session_id}).status

    statuses = together(8, act)
    assert statuses[0] == 204
    assert set(statuses[1:]) <= {200, 404}
    held = rows(server, "SELECT session_id FROM turn_content")
    assert uuid.UUID(session_id).hex not in {str(row[0]).replace("-", "") for row in held}


def test_a_token_used_for_the_first_time_by_many_is_one_subject(server):
    token = server.token_for(f"new-{uuid.uuid4().hex[:8]}")
    replies = together(12, lambda n: server.post_json("/chat", BODY, token=token))
    ids = {answer_of(reply)["meta"]["session_id"] for reply in replies}
    assert {row["session_id"] for row in server.get("/chat/sessions", token=token).json()["results"]} == ids


def test_the_answer_of_a_worker_that_was_killed_is_there_for_the_repeat(gunicorn_server, model_server):
    env = {**ENV, "LLM_PROVIDER": "openai", "LLM_BASE_URL": model_server.url, "LLM_MODEL": "m"}
    server = gunicorn_server(env, workers=1, fresh=True)
    key = {"Idempotency-Key": "killed"}
    first = answer_of(server.post_json("/chat", BODY, headers=key))
    killed = server.kill()
    server.wait_workers(without=killed)
    repeat = server.post_json("/chat", BODY, headers=key)
    assert repeat.headers["Idempotent-Replayed"] == "true"
    assert answer_of(repeat) == first


def test_turns_above_the_places_are_503_at_once_and_the_probes_go_on(gunicorn_server, model_server):
    env = {"LLM_PROVIDER": "openai", "LLM_BASE_URL": model_server.url, "LLM_MODEL": "m", "CHAT_CONCURRENCY": "2"}
    server = gunicorn_server(env, workers=1)
    answer_of(server.post_json("/chat", BODY))
    model_server.reply("good", delay=3)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.post_json, "/chat", BODY) for _ in range(2)]
        until = time.monotonic() + 5
        while len(model_server.requests) < 3:
            assert time.monotonic() < until
        started = time.monotonic()
        shed = server.post_json("/chat", BODY)
        health = server.get("/healthz")
        assert time.monotonic() - started < 1
        model_server.released.set()
        answers = [answer_of(reply.result()) for reply in waiting]
    problem_of(shed, 503, "busy")
    assert int(shed.headers["Retry-After"]) >= 1
    assert health.status == 200
    assert [answer["meta"]["degraded"] for answer in answers] == [False, False]


def test_a_place_is_free_again_after_success_and_after_failure():
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError), admission.turn():
        raise ZeroDivisionError
    with admission.turn(), pytest.raises(Busy), admission.turn():
        pass
    with admission.turn():
        pass


def test_the_first_question_of_a_fresh_server_is_answered_in_its_time(gunicorn_server):
    server = gunicorn_server({"LLM_TIMEOUT_MS": "1000"}, workers=1, fresh=True)
    started = time.monotonic()
    answer = answer_of(server.post_json("/chat/enhanced", BODY))
    assert time.monotonic() - started < 2
    assert "865" in json.dumps(answer)
