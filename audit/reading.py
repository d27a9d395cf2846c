"""Events and their leaves as verification reads them: past the ORM, which would stumble over what was spoilt."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from audit.rows import Row, octets, time_text

CHUNK = 5_000
READ = """
SELECT l."index", l.event_id, l.hash, e.id, {uid}, {at}, e.kind, e.stream, e.stream_seq, e.actor_ref, e.body, e.leaf
FROM audit_leaf l LEFT JOIN audit_event e ON e.id = l.event_id
WHERE l."index" >= %s AND l."index" < %s ORDER BY l."index" LIMIT %s
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


Leaves = list[tuple[int, int, bytes, Row | None]]


def chunks(read: Callable[[int], Leaves], start: int = 0) -> Iterator[Leaves]:
    """What `read` gives from `start` on, and then from where that ended.

    On PostgreSQL the next is read while this one is looked at, by a thread with a connection of its own; not within a
    transaction, of which that would see nothing.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        while rows := read(start):
            yield rows
            start = rows[-1][0] + 1
        return
    with ThreadPoolExecutor(1) as ahead:
        try:
            waiting = ahead.submit(read, start)
            while rows := waiting.result():
                waiting = ahead.submit(read, rows[-1][0] + 1)
                yield rows
        finally:
            # Not its bound method: that would be this thread's.
            ahead.submit(lambda: connection.close()).result()


def leaves_read(start: int, stop: int = 2**63 - 1) -> Leaves:
    """Place, event id, sealed hash and the row itself (None when it is gone) of CHUNK leaves from `start` on."""
    columns = POSTGRESQL if connection.vendor == "postgresql" else SQLITE
    with connection.cursor() as cursor:
        cursor.execute(READ.format(**columns), [start, stop, CHUNK])
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
        uid, at = _uid_text(uid), _at_text(at)
    sealed = None if index is None else octets(sealed_hash)
    return Row(pk, uid, at, kind, stream, seq, actor, octets(body), octets(leaf), index, sealed)


# SQLite takes any value for any column: what is none of ours stays as it is, and differs from the body.


def _uid_text(value: str) -> str:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return value


def _at_text(value: str) -> str:
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return value
    return time_text(at if at.tzinfo else at.replace(tzinfo=UTC))
