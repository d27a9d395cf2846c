"""Events and their leaves as verification reads them: past the ORM, which would stumble over what was spoilt."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from math import floor
from typing import Any

from django.db import connection

from audit.rows import Row, octets, time_text

CHUNK = 5_000
READ = """
SELECT l."index", l.event_id, l.hash, e.id, {uid}, {at}, e.kind, e.stream, e.stream_seq, e.actor_ref, e.body, e.leaf
FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id
WHERE l."index" >= %s {below}ORDER BY l."index" LIMIT %s
"""
READ_UNSEALED = """
SELECT NULL, NULL, NULL, e.id, {uid}, {at}, e.kind, e.stream, e.stream_seq, e.actor_ref, e.body, e.leaf
FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id
WHERE e.id > %s AND l.event_id IS NULL ORDER BY e.id LIMIT %s
"""
# As text, as bodies have it: of a million rows the making of objects would take longer than all the hashing.
POSTGRESQL = {
    "uid": "e.uid::text",
    "at": """to_char(e.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '+00:00'""",
}
SQLITE = {"uid": "CAST(e.uid AS text)", "at": "CAST(e.at AS text)"}
# Before any place that a leaf can have; SQLite takes other numbers than whole ones.
BEFORE_ALL = {"postgresql": -(2**63), "sqlite": float("-inf")}
PLACES_END = 2**63


# The place is an int, but for what somebody else has put there.
Leaves = list[tuple[Any, int, bytes, Row | None]]


def chunks(read: Callable[[int], Leaves], start: int = 0) -> Iterator[Leaves]:
    """What `read` gives from `start` on, and then from where that ended.

    On PostgreSQL the next is read while this one is looked at, by a thread with a connection of its own; not within a
    transaction, of which that would see nothing.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        following: int | None = start
        while following is not None and (rows := read(following)):
            yield rows
            following = _following(rows)
        return
    with ThreadPoolExecutor(1) as ahead:
        try:
            ahead.submit(_timeout_set, _timeout()).result()
            waiting = ahead.submit(read, start)
            while rows := waiting.result():
                following = _following(rows)
                waiting = ahead.submit(read, following) if following is not None else ahead.submit(list)
                yield rows
        finally:
            ahead.submit(_connection_return).result()


def _following(rows: Leaves) -> int | None:
    """Where to read on; None when nothing but what is no place can come after, of which this much is enough."""
    last = rows[-1][0]
    return floor(last) + 1 if isinstance(last, (int, float)) and last < PLACES_END - 1 else None


def _timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])


def _timeout_set(value: str | None) -> None:
    """That of the connection that asks for all this also for the one that reads; None as it was."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, false)" if value else "RESET statement_timeout",
            [value] if value else None,
        )


def _connection_return() -> None:
    try:
        _timeout_set(None)
    finally:
        connection.close()


def leaves_read(start: float, stop: int | None = None) -> Leaves:
    """Place, event id, sealed hash and the row itself (None when it is gone) of CHUNK leaves from `start` on, all of
    them below `stop`."""
    columns = POSTGRESQL if connection.vendor == "postgresql" else SQLITE
    with connection.cursor() as cursor:
        sql = READ.format(**columns, below="" if stop is None else 'AND l."index" < %s ')
        cursor.execute(sql, [start, CHUNK] if stop is None else [start, stop, CHUNK])
        found = cursor.fetchall()
    return [(entry[0], entry[1], octets(entry[2]), _row(entry)) for entry in found]


def unsealed_read(last: int) -> list[tuple[int, Row]]:
    """Id and row of CHUNK events without a leaf, of higher ids than `last`."""
    columns = POSTGRESQL if connection.vendor == "postgresql" else SQLITE
    with connection.cursor() as cursor:
        cursor.execute(READ_UNSEALED.format(**columns), [last, CHUNK])
        found = cursor.fetchall()
    rows = [(entry[3], _row(entry)) for entry in found]
    return [(pk, row) for pk, row in rows if row]


def _row(entry: tuple[Any, ...]) -> Row | None:
    index, _, sealed_hash, pk, uid, at, kind, stream, seq, actor, body, leaf = entry
    if pk is None:
        return None
    if connection.vendor != "postgresql":
        uid, at = uid_text(uid), at_text(at)
    sealed = None if index is None else octets(sealed_hash)
    return Row(pk, uid, at, kind, stream, seq, actor, octets(body), octets(leaf), index, sealed)


# SQLite takes any value for any column: what is none of ours stays as it is, and differs from the body.


def uid_text(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return value


def at_text(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    return time_text(at if at.tzinfo else at.replace(tzinfo=UTC))
