"""Streams that somebody ends: by stopping, by going away, by deleting the session."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from redis import Redis

from tests.chat.asking import QUESTION, problem_of
from tests.chat.streaming import (
    BLOCKS,
    draft_of,
    ended_badly,
    ended_well,
    events_of,
    eventually,
    model_env,
    paused_stream,
    recorded_answer,
    resumed,
    rows,
    turn_ended,
)
from tests.services.gunicorn import Gunicorn, Reply
from tests.services.sse import stream_post, stream_resume

ID = uuid.UUID(int=0xABCDEF << 64)
PLANTED = "zanzibar-cantilever"


@pytest.fixture(autouse=True)
def model_done(model_server):
    """What a test has left waiting for the model must not count as a connection closed in the next one."""
    yield
    model_server.released.set()
    eventually(lambda: model_server.answering == 0)


@pytest.fixture
def server(gunicorn_server, model_server) -> Gunicorn:
    """One that does not wait long for clients to come back."""
    return gunicorn_server(model_env(model_server, STREAM_RESUME_SECONDS="1"), workers=1)


@pytest.fixture
def elsewhere(gunicorn_server, model_server, server) -> Gunicorn:
    """Another process on the same database."""
    return gunicorn_server(
        {**model_env(model_server, STREAM_RESUME_SECONDS="1"), "VAR_DIR": server.env["VAR_DIR"]}, workers=1
    )


def stop(server: Gunicorn, turn_id: str, **options) -> Reply:
    return server.request("POST", f"/chat/turns/{turn_id}/stop", **options)


def stopped_well(server: Gunicorn, stream, sent: int) -> dict:
    """The answer of a stopped stream: as far as it came, marked, and recorded as aborted."""
    answer = ended_well(stream.collect())
    assert "TRUNCATED" in answer["meta"]["repair_codes"]
    assert len([event for event in stream.events if event.event == "block"]) == sent
    kind, facts = turn_ended(server, stream)
    assert (kind, facts["ended"], facts["outcome"]) == ("turn.aborted", "stopped", "aborted")
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer
    return answer


@pytest.mark.parametrize("where", ["server", "elsewhere"])
@pytest.mark.parametrize("sent", [3, 0])
def test_a_stopped_stream_closes_with_what_there_is(request, server, model_server, where, sent):
    stopping = request.getfixturevalue(where)
    stream = paused_stream(server, model_server, sent)
    reply = stop(stopping, stream.turn_id, token=server.token)
    assert (reply.status, reply.json()) == (202, {"turn_id": stream.turn_id, "status": "stopping"})
    answer = stopped_well(server, stream, sent)
    assert "part 7" not in json.dumps(answer)
    # Nobody waits for the model any more: its connection is closed, which it sees when it writes.
    model_server.released.set()
    eventually(lambda: model_server.disconnects == 1)


def test_stopping_twice_is_no_fault(server, model_server):
    stream = paused_stream(server, model_server, 2)
    statuses = [stop(server, stream.turn_id).status for _ in range(2)]
    assert statuses[0] == 202
    assert statuses[1] in (202, 409)
    stopped_well(server, stream, 2)
    problem_of(stop(server, stream.turn_id), 409, "turn_ended")


def test_a_finished_turn_cannot_be_stopped(server, model_server):
    model_server.reply(answer=draft_of())
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    problem_of(stop(server, stream.turn_id), 409, "turn_ended")
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer


def test_a_turn_that_was_not_streamed_has_ended(server, model_server):
    answer = server.post_json("/chat", {"question": QUESTION}).json()
    problem_of(stop(server, answer["meta"]["turn_id"]), 409, "turn_ended")


def test_a_stranger_can_neither_stop_nor_watch(server, model_server):
    stream = paused_stream(server, model_server, 2)
    token = server.token_for("stranger")
    problem_of(stop(server, stream.turn_id, token=token), 404, "turn_not_found")
    problem_of(stream_resume(server, stream.turn_id, 0, token=token).problem(), 404, "turn_not_found")
    model_server.released.set()
    assert len(ended_well(stream.collect())["blocks"]) == BLOCKS
    problem_of(stop(server, stream.turn_id, token=token), 404, "turn_not_found")
    problem_of(stream_resume(server, stream.turn_id, 0, token=token).problem(), 404, "turn_not_found")


@pytest.mark.parametrize("turn_id", [str(ID), str(ID).upper(), ID.hex, "x", "%00"])
def test_what_is_no_turn_is_404(server, turn_id):
    problem_of(stop(server, turn_id), 404)
    problem_of(stream_resume(server, turn_id, 0).problem(), 404)


def test_the_next_turn_follows_a_stopped_one(server, model_server):
    stream = paused_stream(server, model_server, 2)
    session_id = stream.events[0].data["session_id"]
    stop(server, stream.turn_id)
    stopped_well(server, stream, 2)
    model_server.reply(answer=draft_of(1))
    following = ended_well(stream_post(server, question="And then?", session_id=session_id).collect())
    assert following["meta"]["turn"] == 2
    assert "part 0" in json.dumps(model_server.bodies[-1]["messages"])


def test_a_stream_that_nobody_watches_is_called_off_and_recorded(server, model_server):
    # It has to write for the server to see that nobody reads.
    draft = draft_of(60)
    model_server.reply("slow", answer=draft, seconds=0.02)
    stream = stream_post(server, question=QUESTION)
    stream.until("block", 2)
    stream.drop(reset=True)
    kind, facts = turn_ended(server, stream)
    assert (kind, facts["ended"]) == ("turn.aborted", "abandoned")
    eventually(lambda: model_server.disconnects == 1)
    again = resumed(server, stream)
    answer = ended_well(again.collect())
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer
    sent = [event for event in again.events if event.event == "block"]
    assert 2 <= len(sent) < len(draft["blocks"])
    assert "TRUNCATED" in answer["meta"]["repair_codes"]


def test_a_stream_that_is_watched_elsewhere_goes_on(server, elsewhere, model_server):
    draft = draft_of(40)
    model_server.reply("slow", answer=draft, seconds=0.02)
    stream = stream_post(server, question=QUESTION)
    stream.until("block", 2)
    again = resumed(elsewhere, stream, token=server.token)
    stream.drop(reset=True)
    assert ended_well(again.collect())["blocks"] == draft["blocks"]
    assert turn_ended(server, stream)[0] == "turn.completed"


@pytest.mark.parametrize("store", ["database", "redis"])
def test_a_session_deleted_while_it_streams_keeps_no_text(request, gunicorn_server, model_server, store):
    redis_url = {} if store == "database" else {"REDIS_URL": request.getfixturevalue("redis_server").url}
    server = gunicorn_server(model_env(model_server, **redis_url), workers=1)
    stream = paused_stream(server, model_server, 3, draft=draft_of(word=PLANTED), question=f"Which {PLANTED}?")
    session_id, turn_id = stream.events[0].data["session_id"], stream.turn_id
    assert held(server, request, store, turn_id)
    assert server.request("DELETE", f"/chat/sessions/{session_id}").status == 204
    model_server.released.set()
    problem = ended_badly(stream.collect())
    assert problem["status"] in (404, 410)
    kinds = eventually(lambda: [k for k, _ in events_of(server, session_id)][2:] and events_of(server, session_id))
    assert [kind for kind, _ in kinds] == ["turn.started", "session.deleted", "turn.aborted"]
    aborted = kinds[-1][1]
    assert (aborted["ended"], aborted["question"]) == ("session_deleted", kinds[0][1]["question"])
    assert "answer" not in aborted
    # Redis is told after the commit.
    eventually(lambda: not held(server, request, store, turn_id))
    sealed = [
        bytes(row) for (row,) in rows(server, "SELECT sealed FROM chat_stream WHERE session_id = %s", key(session_id))
    ]
    assert set(sealed) <= {b""}
    assert not rows(server, "SELECT 1 FROM turn_content WHERE session_id = %s", key(session_id))
    assert PLANTED not in server.logs()
    problem_of(server.get(f"/chat/sessions/{session_id}"), 404)
    after = stream_resume(server, turn_id, 0)
    problem_after = ended_badly_from_the_start(after)
    assert problem_after["code"] == "content_gone"


def ended_badly_from_the_start(stream) -> dict:
    if stream.status != 200:
        return stream.problem().json()
    (only,) = stream.collect()
    assert only.event == "error"
    return only.data


def key(text: str) -> str:
    """A uuid as SQLite holds it."""
    return uuid.UUID(text).hex


def held(server: Gunicorn, request, store: str, turn_id: str) -> int:
    """How many events of the stream are in its buffer."""
    if store == "redis":
        with Redis(port=request.getfixturevalue("redis_server").port) as client:
            return sum(client.zcard(name) for name in client.scan_iter(f"*{turn_id}*") if client.type(name) == b"zset")
    return len(rows(server, "SELECT n FROM chat_stream_event WHERE turn_id = %s", key(turn_id)))


def test_a_session_deleted_while_its_turn_is_recorded_locks_nobody_out(gunicorn_server, model_server, postgres_server):
    server = gunicorn_server(model_env(model_server), workers=1, database_url=postgres_server.database_create())
    stream = paused_stream(server, model_server, 2)
    started = stream.events[0].data
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with psycopg.connect(server.env["DATABASE_URL"]) as holding, ThreadPoolExecutor(1) as pool:
        # Both have to get past this row, each with the locks that it has by then.
        holding.execute("SELECT 1 FROM chat_stream WHERE turn_id = %s FOR UPDATE", [started["turn_id"]])
        model_server.released.set()
        eventually(lambda: rows(server, waiting)[0][0] == 1)
        deleting = pool.submit(server.request, "DELETE", f"/chat/sessions/{started['session_id']}")
        eventually(lambda: rows(server, waiting)[0][0] == 2)
        holding.rollback()
        assert deleting.result().status == 204
    assert ended_well(stream.collect())["blocks"] == draft_of()["blocks"]
    kinds = [kind for kind, _ in events_of(server, started["session_id"])]
    assert kinds == ["turn.started", "turn.completed", "session.deleted"]
    assert not rows(server, "SELECT 1 FROM turn_content WHERE session_id = %s", started["session_id"])
