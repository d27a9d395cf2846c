"""What can go wrong while an answer streams: the provider, the database, too many at once."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from tests.chat.asking import QUESTION, answer_of, problem_of
from tests.chat.streaming import (
    blocks_of,
    chunks_until,
    draft_of,
    ended_badly,
    ended_well,
    eventually,
    model_env,
    paused_stream,
    recorded_answer,
    resumed,
    rows,
    threads_of,
    turn_ended,
)
from tests.model_server import REFUSAL
from tests.services.gunicorn import Gunicorn
from tests.services.sse import EventStream, stream_post

BODY = {"question": QUESTION}
TIMEOUT_MS = "1500"


@pytest.fixture
def server(gunicorn_server, model_server) -> Iterator[Gunicorn]:
    """One worker, which gives its model little time."""
    server = gunicorn_server(model_env(model_server, LLM_TIMEOUT_MS=TIMEOUT_MS), workers=1)
    yield server
    # Five failures on end would open the breaker for the tests that follow.
    model_server.reset()
    eventually(lambda: not answer_of(server.post_json("/chat", BODY))["meta"]["degraded"])


BROKEN = ["cut", "error", "garbage", "stall"]


@pytest.mark.parametrize("where", BROKEN)
def test_a_model_that_breaks_off_before_any_block_is_replaced(server, model_server, where):
    model_server.reply("break_off", answer=draft_of(), size=4, where=where, seconds=30)
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert (answer["meta"]["provider"], answer["meta"]["degraded"]) == ("extractive", True)
    assert blocks_of(stream.events) == answer["blocks"]
    assert "could not be reached" in answer["blocks"][0]["title"]
    assert "865" in json.dumps(answer["blocks"])
    kind, facts = turn_ended(server, stream)
    failure = {"cut": "dropped", "error": "server_error", "garbage": "malformed", "stall": "timeout"}[where]
    assert (kind, facts["outcome"], facts["failure"]) == ("turn.completed", "degraded", failure)


@pytest.mark.parametrize("where", BROKEN)
def test_a_model_that_breaks_off_after_blocks_leaves_them(server, model_server, where):
    draft = draft_of()
    model_server.reply("break_off", answer=draft, size=chunks_until(draft, 3), where=where, seconds=30)
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == draft["blocks"][:3]
    assert answer["title"] == draft["title"]
    assert "TRUNCATED" in answer["meta"]["repair_codes"]
    assert (answer["meta"]["provider"], answer["meta"]["degraded"]) == ("openai", True)
    assert len(model_server.requests) == 1
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer
    assert turn_ended(server, stream)[0] == "turn.completed"


def test_a_model_that_cannot_be_had_is_asked_again_before_it_is_replaced(server, model_server):
    model_server.reply("status", status=503, times=1)
    model_server.reply("status", status=503, times=1)
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert len(model_server.requests) == 2
    assert (answer["meta"]["degraded"], len(blocks_of(stream.events))) == (True, len(answer["blocks"]))


def test_a_refusal_is_an_answer_without_blocks_before_it(server, model_server):
    model_server.reply("refusal")
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert [event.event for event in stream.events] == ["started", "answer"]
    assert REFUSAL in answer["blocks"][0]["text"]
    assert answer["meta"]["repair_codes"] == ["REFUSAL"]


MALFORMED = {
    "prose": "A handrail is at least 865 mm high.",
    "trailing comma": '{"title": "T", "summary": "S", "blocks": [{"type": "markdown", "text": "865 mm",}]}',
    "fenced": '```json\n{"title": "T", "summary": "S", "blocks": [{"type": "markdown", "text": "865 mm"}]}\n```',
    "unknown block": '{"title": "T", "summary": "S", "blocks": [{"type": "poem", "text": "865 mm"}]}',
    "brackets": "[" * 3000 + "865",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_valid_draft_comes_as_a_whole_and_repaired(server, model_server, name):
    model_server.reply("text", text=MALFORMED[name])
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert [event.event for event in stream.events] == ["started", "answer"]
    assert answer["meta"]["repaired"] is True
    assert "865" in json.dumps(answer["blocks"])


def test_what_breaks_after_valid_blocks_keeps_them_first(server, model_server):
    whole = json.dumps(draft_of(4))
    model_server.reply(
        "text", text=whole.replace('"text": "The nosing of part 3', '"text": nan, "x": "The nosing of part 3')
    )
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == draft_of(4)["blocks"][:3]
    assert answer["meta"]["repaired"] is True
    assert "part 3" in json.dumps(answer["blocks"])


def test_a_model_that_answers_in_one_piece_is_taken_at_its_word(server, model_server):
    model_server.reply("stall", answer=draft_of(), seconds=0)
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == answer["blocks"] == draft_of()["blocks"]
    assert (answer["meta"]["repair_codes"], answer["meta"]["degraded"]) == ([], False)


# The database.


@contextmanager
def locked(server: Gunicorn):
    """Nobody can write to its SQLite file."""
    with closing(sqlite3.connect(server.var / "onesource.sqlite3", isolation_level=None, timeout=10)) as lock:
        lock.execute("BEGIN IMMEDIATE")
        yield
        lock.execute("ROLLBACK")


def test_an_answer_that_cannot_be_recorded_is_not_given_and_its_end_is_recorded_later(gunicorn_server, model_server):
    server = gunicorn_server(model_env(model_server), workers=1)
    stream = paused_stream(server, model_server, 3, headers={"Idempotency-Key": "unrecorded"})
    with locked(server), ThreadPoolExecutor(1) as pool:
        model_server.released.set()
        refusal = pool.submit(stream_post, server, question=QUESTION)
        problem = ended_badly(stream.collect(60))
        refused = refusal.result().problem()
    assert (problem["status"], problem["code"]) == (503, "database_unavailable")
    # Before a stream has begun it is an ordinary error.
    problem_of(refused, 503, "database_unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    sent = blocks_of(stream.events)
    assert sent == draft_of()["blocks"][:3]
    kind, facts = turn_ended(server, stream, seconds=60)
    assert (kind, facts["outcome"]) == ("turn.aborted", "aborted")
    recorded = recorded_answer(server, stream.events[0].data["session_id"])
    assert recorded["blocks"] == sent
    assert "TRUNCATED" in recorded["meta"]["repair_codes"]
    # `error` was the last event: there is nothing more to come.
    again = resumed(server, stream)
    assert again.status == 204


# Idempotency-Key.


def test_a_repeated_stream_is_replayed_as_one(server, model_server):
    model_server.reply(answer=draft_of())
    key = {"Idempotency-Key": "repeated"}
    first = stream_post(server, question=QUESTION, headers=key)
    answer = ended_well(first.collect())
    again = stream_post(server, question=QUESTION, headers=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert ended_well(again.collect()) == answer
    assert [event.event for event in again.events] == ["started", "answer"]
    assert len(model_server.requests) == 1


def test_a_stream_in_flight_is_409_for_its_key(gunicorn_server, model_server):
    server = gunicorn_server(model_env(model_server), workers=1)
    key = {"Idempotency-Key": "in-flight"}
    stream = paused_stream(server, model_server, 2, headers=key)
    problem_of(stream_post(server, question=QUESTION, headers=key).problem(), 409, "idempotency_key_in_flight")
    model_server.released.set()
    answer = ended_well(stream.collect())
    assert ended_well(stream_post(server, question=QUESTION, headers=key).collect()) == answer


def test_a_failed_stream_frees_its_key(gunicorn_server, model_server):
    server = gunicorn_server(model_env(model_server), workers=1)
    key = {"Idempotency-Key": "failed"}
    stream = paused_stream(server, model_server, 1, headers=key)
    assert server.request("DELETE", f"/chat/sessions/{stream.events[0].data['session_id']}").status == 204
    ended_badly(stream.collect())
    model_server.reply(answer=draft_of(1))
    # The error is told first, and then recorded.
    again = eventually(lambda: begun_with(server, key))
    ended_well(again.collect())
    assert "Idempotent-Replayed" not in again.headers


def begun_with(server: Gunicorn, key: dict[str, str]) -> EventStream | None:
    stream = stream_post(server, question=QUESTION, headers=key)
    if stream.status == 200:
        return stream
    problem_of(stream.problem(), 409, "idempotency_key_in_flight")
    return None


# Places.


@pytest.fixture
def narrow(gunicorn_server, model_server) -> Gunicorn:
    return gunicorn_server(model_env(model_server, CHAT_CONCURRENCY="1", STREAM_RESUME_SECONDS="1"), workers=1)


def has_place(server: Gunicorn, model_server) -> bool:
    model_server.reply(answer=draft_of(1))
    stream = stream_post(server, question=QUESTION)
    if stream.status == 200:
        ended_well(stream.collect())
        return True
    problem_of(stream.problem(), 503, "busy")
    return False


@pytest.mark.parametrize("end", ["end", "drop", "stop"])
def test_a_stream_holds_its_place_until_its_end(narrow, model_server, end):
    # Many blocks: that nobody reads is seen by writing.
    stream = paused_stream(narrow, model_server, 2, draft=draft_of(40))
    assert not has_place(narrow, model_server)
    problem_of(narrow.post_json("/chat", BODY), 503, "busy")
    if end == "drop":
        stream.drop(reset=True)
    if end == "stop":
        assert narrow.request("POST", f"/chat/turns/{stream.turn_id}/stop").status == 202
    model_server.released.set()
    if end != "drop":
        ended_well(stream.collect())
    eventually(lambda: has_place(narrow, model_server))
    turn_ended(narrow, stream)


PLACES = 12


def test_a_hundred_dropped_streams_leave_nothing_behind(gunicorn_server, model_server):
    few = {"CHAT_CONCURRENCY": str(PLACES), "WEB_THREADS": str(PLACES + 4), "LLM_TIMEOUT_MS": "60000"}
    server = gunicorn_server(model_env(model_server, **few), workers=1)
    (worker,) = server.worker_pids()
    places_fill(server, model_server)
    before = threads_of(worker)
    model_server.reply("slow", answer=draft_of(20), seconds=0.001)
    streams = []
    for n in range(100):
        streams.append(begun(server))
        streams[-1].until("block" if n % 2 else "started")
        streams[-1].drop(reset=n % 3 == 0)
    for stream in streams:
        assert turn_ended(server, stream)[0] == "turn.completed"
    eventually(lambda: threads_of(worker) <= before + 2)
    places_fill(server, model_server)


def begun(server: Gunicorn) -> EventStream:
    """A place whose client is gone is free once the server has noticed."""

    def attempt() -> EventStream | None:
        stream = stream_post(server, question=QUESTION)
        if stream.status == 200:
            return stream
        problem_of(stream.problem(), 503, "busy")
        return None

    return eventually(attempt)


def places_fill(server: Gunicorn, model_server) -> None:
    """As many streams at once as there are places, and no more."""
    model_server.reply("pause", answer=draft_of(), size=chunks_until(draft_of(), 1), seconds=60)
    streams = [begun(server) for _ in range(PLACES)]
    problem_of(stream_post(server, question=QUESTION).problem(), 503, "busy")
    model_server.released.set()
    for stream in streams:
        ended_well(stream.collect())
    eventually(lambda: not rows(server, "SELECT 1 FROM chat_stream WHERE status = 'running'"))
    model_server.reset()
