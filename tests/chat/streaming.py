"""What the tests of streams share: drafts of many blocks, the contract of a stream's events, the record."""

import json
import math
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from jsonschema import Draft202012Validator

from chat.guard.schema import ANSWER
from tests.chat.asking import ORACLE, QUESTION
from tests.model_server import MODEL, ModelServer
from tests.services.gunicorn import Gunicorn
from tests.services.sse import EventStream, ServerEvent, stream_post, stream_resume

BLOCK_ORACLE = Draft202012Validator({"$ref": "#/$defs/block", "$defs": ANSWER["$defs"]})
BLOCKS = 8
WAIT_SECONDS = 30.0


def draft_of(blocks: int = BLOCKS, word: str = "nosing") -> dict[str, Any]:
    kinds: list[dict[str, Any]] = [
        {"type": "markdown", "text": f"The {word} of part %d is at most 865 mm."},
        {"type": "list", "ordered": False, "items": [f"{word} %d", "M\u0101ori \u26a0 text"]},
        {"type": "callout", "tone": "info", "title": None, "text": f"Check {word} %d."},
    ]
    made = [json.loads(json.dumps(kinds[n % 3]).replace("%d", str(n))) for n in range(blocks)]
    return {"title": "Handrails", "summary": f"About each {word}.", "blocks": made}


def chunks_until(draft: dict[str, Any], blocks: int) -> int:
    """How many chunks the model server sends until so many blocks are closed, and no more."""
    whole = json.dumps(draft)
    cut = json.dumps({**draft, "blocks": draft["blocks"][:blocks]})
    position = len(cut) - 2 if blocks else whole.index("[") + 1
    return 1 + math.ceil(position / 10)


def model_env(model: ModelServer, **more: str) -> dict[str, str]:
    return {
        "LLM_PROVIDER": "openai",
        "LLM_BASE_URL": model.url,
        "LLM_MODEL": MODEL,
        "RATE_LIMIT_PER_USER": "100000",
        "WEB_THREADS": "64",
        "CHAT_CONCURRENCY": "60",
        # A busy machine is no outage.
        "REDIS_SOCKET_TIMEOUT_MS": "5000",
        "REDIS_CONNECT_TIMEOUT_MS": "5000",
        **more,
    }


def paused(model: ModelServer, blocks: int, draft: dict[str, Any] | None = None, *, seconds: float = 60) -> Any:
    """From now on the model stops after so many blocks, until `model.released`. Returns its draft."""
    draft = draft or draft_of()
    model.reply("pause", answer=draft, size=chunks_until(draft, blocks), seconds=seconds)
    return draft


def paused_stream(server: Gunicorn, model: ModelServer, blocks: int = 3, **options: Any) -> EventStream:
    """A stream of which so many blocks have come, and which waits for its model."""
    paused(model, blocks, options.pop("draft", None))
    stream = stream_post(server, question=options.pop("question", QUESTION), **options)
    stream.until("block", blocks) if blocks else stream.until("started")
    return stream


def blocks_of(events: list[ServerEvent]) -> list[dict[str, Any]]:
    """The blocks, which must come in order and each valid."""
    found = [event.data for event in events if event.event == "block"]
    assert [data["index"] for data in found] == list(range(len(found)))
    for data in found:
        assert data.keys() == {"index", "block"}
        BLOCK_ORACLE.validate(data["block"])
    return [data["block"] for data in found]


def ended_well(events: list[ServerEvent]) -> dict[str, Any]:
    """The answer of a whole stream that keeps the contract."""
    in_order(events)
    assert events[-1].event == "answer", events[-1]
    answer: dict[str, Any] = events[-1].data
    ORACLE.validate(answer)
    blocks = blocks_of(events)
    assert answer["blocks"][: len(blocks)] == blocks
    started = events[0].data
    assert {name: answer["meta"][name] for name in ("turn_id", "session_id")} == started
    return answer


def ended_badly(events: list[ServerEvent]) -> dict[str, Any]:
    """The problem of a whole stream that keeps the contract."""
    in_order(events)
    assert events[-1].event == "error", events[-1]
    problem: dict[str, Any] = events[-1].data
    assert problem.keys() == {"type", "title", "status", "detail", "code", "request_id"}
    blocks_of(events)
    return problem


def in_order(events: list[ServerEvent]) -> None:
    ids = [event.id for event in events]
    assert ids[0] == 1
    # A number is skipped for a block that no buffer took.
    assert ids == sorted(set(ids))
    kinds = [event.event for event in events]
    assert kinds[0] == "started"
    assert set(kinds[1:-1]) <= {"block"}


def rows(server: Gunicorn, sql: str, *values: Any) -> list[Any]:
    """Of the server's own database; values by %s."""
    url = server.env.get("DATABASE_URL")
    if url:
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(sql, values).fetchall()
    with closing(sqlite3.connect(server.var / "onesource.sqlite3", timeout=10)) as connection:
        return connection.execute(sql.replace("%s", "?"), values).fetchall()


def events_of(server: Gunicorn, session_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Kind and facts of the audit events of a session, which are numbered without gap."""
    sql = "SELECT stream_seq, kind, body FROM audit_event WHERE stream = %s ORDER BY stream_seq"
    found = rows(server, sql, f"session:{session_id}")
    assert [seq for seq, _, _ in found] == list(range(1, len(found) + 1))
    return [(kind, json.loads(bytes(body))["facts"]) for _, kind, body in found]


def turn_ended(server: Gunicorn, stream: EventStream, *, seconds: float = WAIT_SECONDS) -> tuple[str, dict[str, Any]]:
    """Kind and facts of the one event that ends the turn, for which is waited, and which follows turn.started."""
    session_id, turn_id = stream.events[0].data["session_id"], stream.turn_id

    def of_turn() -> list[tuple[str, dict[str, Any]]]:
        return [(kind, facts) for kind, facts in events_of(server, session_id) if facts.get("turn_id") == turn_id]

    eventually(lambda: len(of_turn()) > 1, seconds=seconds)
    (first, started), (last, facts) = of_turn()
    assert first == "turn.started"
    assert facts["question"] == started["question"]
    return last, facts


def recorded_answer(server: Gunicorn, session_id: str) -> dict[str, Any]:
    """Of the last turn, as its owner sees it later."""
    reply = server.get(f"/chat/sessions/{session_id}")
    assert reply.status == 200
    answer: dict[str, Any] = reply.json()["conversation"][-1]["answer"]
    return answer


def eventually(condition: Callable[[], Any], *, seconds: float = WAIT_SECONDS) -> Any:
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "did not come about"
        time.sleep(0.03)
    return found


def tailed_elsewhere(server: Gunicorn, stream: EventStream) -> bool:
    """Whether the response, of which an event has come, reads the stream of another process."""
    lines = [line for line in server.log_lines() if line.get("event") == "stream.tailed_elsewhere"]
    return stream.request_id in {line.get("request_id") for line in lines}


def resumed(server: Gunicorn, stream: EventStream, **options: Any) -> EventStream:
    """A second connection that goes on where the first one stands; its events follow those it has."""
    again = stream_resume(server, stream.turn_id, stream.last_id, **options)
    again.events = list(stream.events)
    return again


def threads_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))


def workers_signal(server: Gunicorn, number: signal.Signals) -> list[int]:
    pids = server.worker_pids()
    for pid in pids:
        os.kill(pid, number)
    return pids
