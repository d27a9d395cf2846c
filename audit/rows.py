"""Whether a row of audit_event is what its body says: the body is the truth, the columns are projections of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audit.merkle import leaf_hash

VERSION = 1
# What is in the body, and the column that is made from it.
KEYS = ("v", "uid", "at", "kind", "stream", "seq", "actor")
COLUMNS = ("v", "uid", "at", "kind", "stream", "stream_seq", "actor_ref")


@dataclass(slots=True)
class Row:
    """A row as it was read, with the place and the hash that the log has for it (None before sealing).

    `uid` and `at` are text as in a body, which is what they are compared with.
    """

    pk: int
    uid: str
    at: str
    kind: str
    stream: str
    stream_seq: int
    actor_ref: str
    body: bytes
    leaf: bytes
    index: int | None = None
    sealed_hash: bytes | None = None


def octets(value: Any) -> bytes:
    """What a column of bytes holds; SQLite lets somebody put a text there."""
    return value.encode() if isinstance(value, str) else bytes(value or b"")


def time_text(at: datetime) -> str:
    """As bodies have it: UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def body_read(body: bytes) -> dict[str, Any] | None:
    """None for what is no body of an event."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and isinstance(value.get("facts"), dict) else None


def row_problems(row: Row, body: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """(code, sentence) of each contradiction within one row, and between the row and the log."""
    digest = leaf_hash(row.body)
    if row.sealed_hash is not None and digest != row.sealed_hash:
        yield "body_edited", "the body is not the one that was sealed"
    elif digest != row.leaf:
        yield "leaf_edited", "the row's own hash is not that of its body"
    if row.sealed_hash is not None and row.leaf != row.sealed_hash:
        yield "leaf_edited", "the row's own hash is not the one in the log"
    if body is None:
        yield "body_edited", "the body is not JSON of an event"
        return
    stored = (VERSION, row.uid, row.at, row.kind, row.stream, row.stream_seq, row.actor_ref)
    told = tuple(map(body.get, KEYS))
    if stored == told:
        return
    for column, in_column, in_body in zip(COLUMNS, stored, told, strict=True):
        if in_column != in_body:
            yield "column_edited", f"the column {column} says {in_column!r}, the body {in_body!r}"
