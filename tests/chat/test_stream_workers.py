"""Workers that die or stand still while they stream. It takes half a minute to see one, so all run at once."""

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.chat.asking import QUESTION
from tests.chat.streaming import (
    blocks_of,
    draft_of,
    ended_well,
    model_env,
    paused,
    recorded_answer,
    resumed,
    rows,
    turn_ended,
    workers_signal,
)
from tests.model_server import ModelServer
from tests.services.gunicorn import Gunicorn
from tests.services.sse import EventStream, stream_post, stream_resume

SENT = 3
STILL_SECONDS = 32


@dataclass
class Stage:
    """One server to be killed and one to be stopped, and one that goes on, on one database; a model for all."""

    killed: Gunicorn
    stood: Gunicorn
    other: Gunicorn
    model: ModelServer

    def begin(self, server: Gunicorn, **options) -> EventStream:
        stream = stream_post(server, question=QUESTION, token=self.killed.token, **options)
        stream.until("block", SENT)
        return stream


@pytest.fixture(scope="module")
def stage(gunicorn_server, postgres_server):
    model = ModelServer().start()
    paused(model, SENT)
    database = postgres_server.database_create()
    env = model_env(model, LLM_TIMEOUT_MS="120000")
    killed = gunicorn_server(env, workers=1, database_url=database, fresh=True)
    shared = {**env, "VAR_DIR": killed.env["VAR_DIR"]}
    stood, other = (gunicorn_server(shared, workers=1, database_url=database, fresh=True) for _ in range(2))
    for server in (stood, other):
        server.token = killed.token
    yield Stage(killed, stood, other, model)
    model.stop()


@pytest.fixture(scope="module")
def runs(stage):
    """The scenarios, all running."""
    scenarios = {"killed and watched": killed_and_watched, "killed": killed_alone, "stood still": stood_still}
    begun = {name: scenario(stage) for name, scenario in scenarios.items()}
    workers_signal(stage.killed, signal.SIGKILL)
    stopped = workers_signal(stage.stood, signal.SIGSTOP)
    with ThreadPoolExecutor(len(begun) + 1) as pool:
        going_on = pool.submit(go_on, stage, stopped)
        yield {name: pool.submit(rest) for name, rest in begun.items()}
        going_on.result()


def go_on(stage: Stage, pids: list[int]) -> None:
    time.sleep(STILL_SECONDS)
    # The model has written the rest by then, and all of it comes at once.
    stage.model.released.set()
    time.sleep(1)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def killed_and_watched(stage: Stage):
    """A client of a worker that dies resumes elsewhere at once."""
    stream = stage.begin(stage.killed)

    def rest():
        assert len(stream.collect()) == 1 + SENT
        again = resumed(stage.other, stream)
        again.collect(60)
        return stream, again

    return rest


def killed_alone(stage: Stage):
    """Its client does not come back in time: the sweeper of another worker records it."""
    stream = stage.begin(stage.killed, headers={"Idempotency-Key": "killed"})
    stream.drop()

    def rest():
        turn_ended(stage.other, stream, seconds=60)
        again = resumed(stage.other, stream)
        again.collect()
        return stream, again

    return rest


def stood_still(stage: Stage):
    stream = stage.begin(stage.stood)

    def rest():
        kind, _ = turn_ended(stage.other, stream, seconds=60)
        assert kind == "turn.aborted"
        stream.collect(60)
        return stream, stream

    return rest


@pytest.mark.parametrize("name", ["killed and watched", "killed", "stood still"])
def test_what_was_sent_is_recorded_once_and_marked(runs: dict[str, Future], stage, name):
    stream, again = runs[name].result()
    answer = ended_well(again.events)
    # Cut off, and no block that was not sent before, nor one that is not in the record.
    assert blocks_of(again.events) == draft_of()["blocks"][:SENT] == answer["blocks"]
    assert "TRUNCATED" in answer["meta"]["repair_codes"]
    session_id = answer["meta"]["session_id"]
    assert recorded_answer(stage.other, session_id) == answer
    kind, facts = turn_ended(stage.other, stream)
    assert (kind, facts["ended"], facts["outcome"]) == ("turn.aborted", "orphaned", "aborted")
    assert answer["meta"]["turn"] == 1
    assert len(rows(stage.other, "SELECT 1 FROM chat_turn WHERE session_id = %s", session_id)) == 1


def test_a_worker_that_stood_still_goes_on_and_changes_nothing(runs, stage):
    stream, _ = runs["stood still"].result()
    lines = [line["event"] for line in stage.stood.log_lines() if line.get("turn_id") == stream.turn_id]
    assert "stream.ended_elsewhere" in lines
    whole = stream_resume(stage.other, stream.turn_id).collect()
    assert [(e.id, e.event, e.data) for e in whole] == [(e.id, e.event, e.data) for e in stream.events]
    paused(stage.model, 8)
    assert len(ended_well(stream_post(stage.stood, question=QUESTION).collect())["blocks"]) == 8


def test_more_streams_than_database_connections(gunicorn_server, postgres_server, model_server):
    """A stream that waits for its model holds no connection."""
    env = model_env(model_server, DATABASE_POOL_SIZE="3")
    server = gunicorn_server(env, workers=1, database_url=postgres_server.database_create(), fresh=True)
    paused(model_server, 1)
    streams = [stream_post(server, question=QUESTION) for _ in range(12)]
    for stream in streams:
        stream.until("block", 1)
    # With the rest waiting, there is one left for whoever comes next.
    assert server.get("/chat/sessions").status == 200
    model_server.released.set()
    for stream in streams:
        ended_well(stream.collect())
