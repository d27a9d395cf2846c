"""What an owner of the database can do to the trail: the triggers go, and whatever was to be changed is changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from audit.triggers import TABLES, triggers_install


def triggers_drop() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            for table in TABLES:
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_change ON {table}")
                cursor.execute(f"DROP TRIGGER IF EXISTS {table}_no_truncate ON {table}")
        else:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit_%'")
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP TRIGGER {name}")


@contextmanager
def triggers_dropped() -> Iterator[None]:
    """They are put back behind the tamperer, who would not leave so plain a trace."""
    triggers_drop()
    try:
        yield
    finally:
        triggers_install()


def tamper(sql: str, *parameters: Any) -> int:
    """Runs `sql` past the triggers; the number of rows it changed."""
    with triggers_dropped(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return int(cursor.rowcount)
