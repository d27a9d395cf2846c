"""Whether a row of audit_event is what its body says: the body is the truth, the columns are projections of it."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from audit.merkle import leaf_hash

VERSION = 1


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read, with the place and the hash that the log has for it (None before sealing)."""

    pk: int
    uid: uuid.UUID
    at: datetime
    kind: str
    stream: str
    stream_seq: int
    actor_ref: str
    body: bytes
    leaf: bytes
    index: int | None = None
    sealed_hash: bytes | None = None


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
    for column, stored, told in _columns(row, body):
        if stored != told:
            yield "column_edited", f"the column {column} says {stored!r}, the body {told!r}"


def _columns(row: Row, body: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    at = row.at.astimezone(UTC).isoformat(timespec="microseconds")
    yield "v", VERSION, body.get("v")
    yield "uid", str(row.uid), body.get("uid")
    yield "at", at, body.get("at")
    yield "kind", row.kind, body.get("kind")
    yield "stream", row.stream, body.get("stream")
    yield "stream_seq", row.stream_seq, body.get("seq")
    yield "actor_ref", row.actor_ref, body.get("actor")
