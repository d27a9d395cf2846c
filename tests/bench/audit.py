"""The trail at size: `python -m tests.bench.audit [--events 1000000] [--processes 2]` on a PostgreSQL of its own.

Fills the database with recorded turns, seals and verifies them, makes inclusion proofs, and asks the reviewers' search
by each of its filters. Prints one line each.
"""

import argparse
import hashlib
import os
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from onesource.processes import processes_sensible
from tests.services.postgres import postgres_start

TURNS_A_SESSION = 10
SUBJECTS = 2_000
REFERENCES = [f"D{part}D{clause}" for part in range(1, 9) for clause in range(1, 40)] + ["AS 1428.1", "AS 3740"]
CODES = ["TRAILING_COMMA", "FENCE", "TABLE_WAS_MARKDOWN", "TRUNCATED", "DUP_KEY"]
MODELS = ["gpt-x-large", "gpt-x-small", "llama-y"]
SESSIONS = "chat_session (id, subject_ref, turn_count, event_count, created_at, last_turn_at)"
EVENTS = "audit_event (uid, at, kind, stream, stream_seq, actor_ref, body, leaf)"
TURNS = (
    "chat_turn (id, session_id, seq, created_at, endpoint, pipeline, track, outcome, provider, model, degraded, "
    'repaired, repair_codes, "references", context, history_turns, question_chars, answer_chars, prompt_tokens, '
    "completion_tokens, total_us, provider_us, event_uid, arms)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=processes_sensible(), help="that verify")
    options = parser.parse_args()
    server = postgres_start()
    try:
        os.environ |= {
            "DATABASE_URL": server.database_create(),
            "DJANGO_SETTINGS_MODULE": "onesource.settings",
            "VAR_DIR": str(Path(server.process.directory) / "var"),
            "LOG_LEVEL": "ERROR",
        }
        import django

        django.setup()
        bench(options.events, options.processes)
    finally:
        server.stop()


def bench(count: int, processes: int) -> None:
    from django.core.management import call_command

    from audit.sealing import log_seal
    from review.management.commands.audit import patience
    from review.verification import trail_verify

    call_command("migrate", verbosity=0)
    patience()
    say("filled", count, timed(lambda: fill(count))[1])
    sealed, seconds = timed(log_seal)
    say("sealed", sealed, seconds)
    report, seconds = timed(lambda: trail_verify(processes=processes))
    say(f"verified, {'whole' if report.ok else 'NOT WHOLE'}", report.events, seconds)
    proofs(count)
    searches()


def say(what: str, count: int, seconds: float) -> None:
    print(f"{what:<44} {count:>9,}  {seconds:8.2f} s  {count / seconds:>10,.0f}/s", flush=True)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = run()
    return result, time.perf_counter() - started


# Filling: rows as the product writes them, by COPY.


def fill(count: int) -> None:
    from django.db import connection

    random.seed(1)
    subjects = [uuid.UUID(int=random.getrandbits(128)).hex for _ in range(SUBJECTS)]
    start = datetime.now(UTC) - timedelta(days=29)
    step = timedelta(days=29) / count
    with connection.cursor() as cursor:
        for first in range(0, count, 50_000):
            turns = [
                _Turn(number, start + number * step, subjects) for number in range(first, min(first + 50_000, count))
            ]
            for table, rows in (
                (SESSIONS, (turn.session_row() for turn in turns if turn.seq == 1)),
                (EVENTS, (turn.event_row() for turn in turns)),
                (TURNS, (turn.turn_row() for turn in turns)),
            ):
                _copy(cursor, table, rows)
        cursor.execute("ANALYZE")


def _copy(cursor: Any, table: str, rows: Iterator[tuple[Any, ...]]) -> None:
    with cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


class _Turn:
    def __init__(self, number: int, at: datetime, subjects: list[str]) -> None:
        self.session, place = divmod(number, TURNS_A_SESSION)
        self.seq = place + 1
        self.at = at
        self.session_id = _uuid("session", self.session)
        self.turn_id, self.uid = _uuid("turn", number), _uuid("event", number)
        self.subject = subjects[self.session % SUBJECTS]
        self.endpoint = "enhanced" if number % 3 else "chat"
        self.outcome = "answered" if number % 50 else random.choice(("degraded", "declined", "refused", "aborted"))
        self.model = MODELS[0] if number % 20 else random.choice(MODELS)
        self.codes = [random.choice(CODES)] if number % 200 == 0 else []
        cited = random.sample(REFERENCES, random.randint(0, 3))
        self.references = [{"text": text, "known": True} for text in cited]
        self.arms = {"USE_UNIFIED_PIPELINE": number % 100 != 0, "FEATURE_SUGGESTED_ACTIONS": number % 10_000 != 0}

    def session_row(self) -> tuple[Any, ...]:
        return (self.session_id, self.subject, TURNS_A_SESSION, TURNS_A_SESSION, self.at, self.at)

    def event_row(self) -> tuple[Any, ...]:
        from audit.canonical import canonical_json
        from audit.merkle import leaf_hash

        stream = f"session:{self.session_id}"
        kind = "turn.aborted" if self.outcome == "aborted" else "turn.completed"
        body = canonical_json(
            {"v": 1, "uid": str(self.uid), "at": self.at.isoformat(timespec="microseconds"), "kind": kind,
             "stream": stream, "seq": self.seq, "actor": self.subject, "facts": self.facts()}
        )  # fmt: skip
        return (self.uid, self.at, kind, stream, self.seq, self.subject, body, leaf_hash(body))

    def facts(self) -> dict[str, Any]:
        commitment = {"chars": 400, "hmac": "0" * 64}
        return {
            "turn_id": str(self.turn_id), "session_id": str(self.session_id), "turn": self.seq,
            "endpoint": self.endpoint, "pipeline": "unified", "outcome": self.outcome, "failure": "", "ended": "",
            "provider": "openai", "model": self.model, "template": "unified-1", "enforced": True,
            "stop_reason": "stop", "passages": [f"passage-{n}" for n in range(6)],
            "references": [mark["text"] for mark in self.references], "context": {"outcome": "hit", "turns": 3},
            "guard": {"outcome": "repaired" if self.codes else "clean", "events": [{"code": c} for c in self.codes]},
            "flags": {"epoch": 7, **self.arms},
            "tokens": {"prompt": 900, "completion": 300}, "total_us": 1_500_000, "provider_us": 1_490_000,
            "first_token_us": None, "version": "1", "commit": "0" * 40, "track": "stable",
            "question": commitment | {"chars": 80}, "answer": commitment,
        }  # fmt: skip

    def turn_row(self) -> tuple[Any, ...]:
        import json

        return (
            self.turn_id, self.session_id, self.seq, self.at, self.endpoint, "unified", "stable", self.outcome,
            "openai", self.model, self.outcome == "degraded", bool(self.codes), json.dumps(self.codes),
            json.dumps(self.references), "hit", 3, 80, 400, 900, 300, 1_500_000, 1_490_000, self.uid,
            json.dumps(self.arms),
        )  # fmt: skip


def _uuid(kind: str, number: int) -> uuid.UUID:
    return uuid.UUID(bytes=hashlib.sha256(f"{kind}{number}".encode()).digest()[:16], version=4)


# Reading.


def proofs(count: int) -> None:
    from audit.models import Event
    from audit.proofs import proof_for

    ids = list(Event.objects.order_by("pk").values_list("pk", flat=True)[: count : max(count // 200, 1)])
    times = []
    for pk in random.sample(ids, len(ids)):
        event = Event.objects.get(pk=pk)
        times.append(timed(lambda event=event: proof_for(event))[1])
    print(f"{'inclusion proof, median and p99':<44} {_milliseconds(times)}")


def searches() -> None:
    from django.contrib.auth.models import Group, User
    from django.test import Client

    from chat.models import Session, Turn

    user = User.objects.create_user("reviewer", password="x" * 20, is_staff=True)
    user.groups.add(Group.objects.get(name="compliance reviewers"))
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    turn = Turn.objects.order_by("created_at")[1000]
    week = {"from": (turn.created_at - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M")}
    asked: dict[str, dict[str, str]] = {
        "no filter": {},
        "a subject": {"user": Session.objects.order_by("id").values_list("subject_ref", flat=True)[77]},
        "a session": {"session": str(turn.session_id)},
        "a turn": {"turn": str(turn.pk)},
        "outcome, rare": {"outcome": "refused"},
        "outcome, common": {"outcome": "answered"},
        "endpoint": {"endpoint": "chat"},
        "repair code": {"repair_code": "TRUNCATED"},
        "repair code, never": {"repair_code": "BOM"},
        "flag arm, common": {"arm": "USE_UNIFIED_PIPELINE=on"},
        "flag arm, 1 %": {"arm": "USE_UNIFIED_PIPELINE=off"},
        "flag arm, 0.01 %": {"arm": "FEATURE_SUGGESTED_ACTIONS=off"},
        "model, rare": {"model": MODELS[2]},
        "model, never": {"model": "nobody"},
        "reference": {"reference": "D3D22"},
        "reference, never": {"reference": "Z9Z99"},
        "reference and rare outcome": {"reference": "D3D22", "outcome": "refused"},
        "repaired": {"repaired": "yes"},
        "degraded": {"degraded": "yes"},
        "all of it": {"reference": "D3D22", "outcome": "answered", "endpoint": "chat", "repair_code": "FENCE"},
    }
    # That of a process loads the templates.
    print(f"{'search: the first page':<44} {_milliseconds([timed(lambda: client.get('/audit/', week))[1]])}")
    for name, filters in asked.items():
        times = []
        for _ in range(5):
            page, seconds = timed(lambda given=filters: client.get("/audit/", {**week, **given}))
            assert page.status_code == 200, page.status_code
            times.append(seconds)
        print(f"{'search: ' + name:<44} {_milliseconds(times)}")
    for name, path in {"turn page": f"/audit/turns/{turn.pk}/", "events": "/audit/events/"}.items():
        times = [timed(lambda path=path: client.get(path))[1] for _ in range(5)]
        print(f"{name:<44} {_milliseconds(times)}")


def _milliseconds(times: list[float]) -> str:
    ordered = sorted(times)
    return f"{ordered[len(ordered) // 2] * 1000:8.1f} ms  {ordered[-max(len(ordered) // 100, 1)] * 1000:8.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
