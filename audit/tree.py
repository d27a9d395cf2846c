"""The Merkle log as the database holds it."""

from typing import Any

from django.db import connection

from audit.models import Checkpoint
from audit.rows import octets
from audit.tiles import TileError, TileReader

# In plain SQL: a proof takes four of these, and to compile them would be a third of its time.
TILE = 'SELECT hashes FROM audit_tile WHERE level = %s AND "index" = %s'
ROOTS = 'SELECT root FROM audit_tile WHERE level = %s AND "index" >= %s AND "index" < %s ORDER BY "index"'
LEAVES = 'SELECT hash FROM audit_leaf WHERE "index" >= %s AND "index" < %s ORDER BY "index"'


def checkpoint_latest() -> Checkpoint | None:
    return Checkpoint.objects.order_by("-size").first()


def reader(size: int) -> TileReader:
    """Of the log when it had `size` leaves. Its methods raise TileError for what the database does not hold."""
    return TileReader(tile=_tile, roots=_roots, leaves=_leaves, size=size)


def _tile(level: int, index: int) -> bytes:
    found = _column(TILE, level, index)
    if not found:
        raise TileError(f"tile {index} of level {level} is missing")
    return found[0]


def _roots(level: int, start: int, stop: int) -> list[bytes]:
    return _column(ROOTS, level, start, stop)


def _leaves(start: int, stop: int) -> list[bytes]:
    return _column(LEAVES, start, stop)


def _column(sql: str, *parameters: Any) -> list[bytes]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return [octets(value) for (value,) in cursor.fetchall()]
