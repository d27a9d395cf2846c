"""Concurrent appends: `python -m tests.bench.appends [--count 10000] [--only mongo ...]`, on every kind of store.

`count` turns are appended by 16 threads in random order: to one session, which must then hold the newest CONV_MAX_TURNS
in order, and to sessions of ten turns each, which must hold them all in order. `database` records the turns instead, as
that is what writes it: the record must have each once, numbered 1 to `count`. Ends with 1 when a store does not.
"""

import argparse
import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.environment import ROOT
from tests.services.gunicorn import database_prepared
from tests.services.mongo import mongo_start
from tests.services.postgres import postgres_start
from tests.services.redis import cluster_start, redis_start, sentinel_start

if TYPE_CHECKING:
    from chat.stores.base import ConversationStore, Message

KINDS = ("redis", "cluster", "sentinel", "mongo", "database", "dual")
THREADS = 16
TURNS = 10
TTL = 3600
# FerretDB reads all that it holds for each query: so many sessions at a time, checked and deleted before the next.
MONGO_SESSIONS = 50
# What is measured is whether all arrive, not how long each waits.
PATIENT = {"REDIS_SOCKET_TIMEOUT_MS": "10000", "REDIS_CONNECT_TIMEOUT_MS": "10000", "MONGO_TIMEOUT_MS": "10000"}


def all_done(act: Callable[[tuple[uuid.UUID, int]], object], jobs: Iterable[tuple[uuid.UUID, int]]) -> None:
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(act, jobs):
            pass


def turn(number: int) -> "list[Message]":
    from chat.stores.base import Message

    return [Message(2 * number - 1, "user", f"q{number}"), Message(2 * number, "assistant", f"a{number}")]


def held(store: "ConversationStore", session_id: uuid.UUID) -> list[str]:
    return [message.text for message in store.load(session_id, 1000)]


def texts(first: int, last: int) -> list[str]:
    return [message.text for number in range(first, last + 1) for message in turn(number)]


def appended(kind: str, count: int) -> tuple[bool, float, bool, float]:
    """Whether one session is as it must be and in how many seconds; the same of many sessions."""
    from chat.stores.conversation import hot_stores, store_for
    from flags import snapshot

    flags = snapshot.current()
    store, keep = store_for(flags), int(flags.number("CONV_MAX_TURNS"))
    stores = [*hot_stores().values()]

    def append(job: tuple[uuid.UUID, int]) -> None:
        store.append(job[0], turn(job[1]), keep=2 * keep, ttl_seconds=TTL)

    for one in stores:
        one.care()
    alone = uuid.uuid4()
    started = time.monotonic()
    all_done(append, [(alone, number) for number in random.sample(range(1, count + 1), count)])
    one_seconds = time.monotonic() - started
    one_right = all(held(each, alone) == texts(max(count - keep, 0) + 1, count) for each in stores)
    store.delete(alone)

    many_right, many_seconds = True, 0.0
    sessions = [uuid.uuid4() for _ in range(count // TURNS)]
    step = MONGO_SESSIONS if "mongo" in hot_stores() else len(sessions)
    for start in range(0, len(sessions), step):
        some = sessions[start : start + step]
        jobs = [(session_id, number) for session_id in some for number in range(1, TURNS + 1)]
        started = time.monotonic()
        all_done(append, random.sample(jobs, len(jobs)))
        many_seconds += time.monotonic() - started
        many_right &= all(held(each, session_id) == texts(1, TURNS) for each in stores for session_id in some)
        for session_id in some:
            store.delete(session_id)
    return one_right, one_seconds, many_right, many_seconds


def recorded(count: int) -> tuple[bool, float, bool, float]:
    """The same of the record, which numbers the turns by itself: each question once, in the order of the numbers."""
    from django.db import connection

    from audit.selectors import contents_last
    from chat.guard import guard
    from chat.models import Turn
    from chat.pipeline.turn import Drafted, TurnInput
    from chat.providers import Completion
    from chat.recording import turn_record
    from chat.stores.conversation import RECORD
    from flags import snapshot
    from flags.snapshot import Subject

    flags, subject = snapshot.current(), Subject("a" * 32)
    keep = int(flags.number("CONV_MAX_TURNS"))
    guarded = guard('{"title":"t","summary":"","blocks":[{"type":"markdown","text":"At least 865 mm."}]}')
    drafted = Drafted("unified", Completion("", "extractive", ""), guarded, degraded=False, provider_seconds=0.0)

    def record(job: tuple[uuid.UUID, int]) -> None:
        asked = TurnInput(uuid.uuid4(), job[0], f"q{job[1]}", "chat", [], flags, subject)
        turn_record(turn=asked, drafted=drafted, context="none", started=time.perf_counter())
        connection.close()

    def right(session_id: uuid.UUID, turns: int) -> bool:
        seqs = [*Turn.objects.filter(session_id=session_id).order_by("seq").values_list("seq", flat=True)]
        contents = [row.seq for row in contents_last(session_id, turns + 1)]
        shown = [message.seq for message in RECORD.load(session_id, 2 * keep)]
        questions = {message.text for message in RECORD.load(session_id, 2 * turns)[::2]}
        newest = [*range(2 * max(turns - keep, 0) + 1, 2 * turns + 1)]
        numbered = [*range(1, turns + 1)]
        return seqs == numbered == contents and shown == newest and questions == {f"q{n}" for n in numbered}

    alone, sessions = uuid.uuid4(), [uuid.uuid4() for _ in range(count // TURNS)]
    started = time.monotonic()
    all_done(record, [(alone, number) for number in random.sample(range(1, count + 1), count)])
    one_seconds = time.monotonic() - started
    one_right = right(alone, count)
    jobs = [(session_id, number) for session_id in sessions for number in range(1, TURNS + 1)]
    started = time.monotonic()
    all_done(record, random.sample(jobs, len(jobs)))
    many_seconds = time.monotonic() - started
    return one_right, one_seconds, all(right(session_id, TURNS) for session_id in sessions), many_seconds


def child(kind: str, count: int) -> int:
    import django

    django.setup()
    one, one_seconds, many, many_seconds = recorded(count) if kind == "database" else appended(kind, count)
    words = {True: "all there, in order", False: "WRONG"}
    print(
        f"{kind:10} {count:>8} {one_seconds:>10.1f} s  {words[one]:22} {many_seconds:>10.1f} s  {words[many]}",
        flush=True,
    )
    return 0 if one and many else 1


def environment(kind: str, base: dict[str, str], stack: ExitStack) -> dict[str, str]:
    """Starts what the kind needs."""
    given = dict(PATIENT)
    if kind in ("redis", "cluster", "sentinel", "dual"):
        start = {"cluster": cluster_start, "sentinel": sentinel_start}.get(kind, redis_start)
        server = start()
        stack.callback(server.stop)
        given |= {"REDIS_URL": server.url, "CONV_STORE_PRIMARY": "redis"}
    if kind in ("mongo", "dual"):
        mongo = mongo_start(mine=True)
        stack.callback(mongo.stop)
        given |= {"MONGO_URL": mongo.url, "CONV_STORE_PRIMARY": "redis" if kind == "dual" else "mongo"}
    if kind == "database":
        given["CONV_STORE_PRIMARY"] = "database"
    if kind == "dual":
        given["CONV_DUAL_WRITE"] = "1"
    return base | given


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.appends", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options.child, options.count)
    failed = 0
    print(f"{'store':10} {'appends':>8} {'to one session':36} to sessions of {TURNS} turns", flush=True)
    with ExitStack() as stack:
        postgres = postgres_start()
        stack.callback(postgres.stop)
        base = database_prepared(postgres.database_create()) | {"LOG_LEVEL": "ERROR"}
        for kind in options.only:
            with ExitStack() as servers:
                env = environment(kind, base, servers)
                command = [sys.executable, "-m", "tests.bench.appends", "--child", kind, "--count", str(options.count)]
                failed += subprocess.run(command, cwd=ROOT, env=env, check=False).returncode != 0
    return 1 if failed else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
