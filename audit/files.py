"""What was deleted must leave the files as well, as far as a database offers that."""

from contextlib import closing

import psycopg
import structlog
from django.db import connection
from psycopg import sql

from onesource.postgresql.connection import DeadlineConnection

log = structlog.get_logger(__name__)
# For the readers that stand in the way of a checkpoint; writers wait for as long.
CHECKPOINT_WAIT_MS = 200
VACUUM_SECONDS = 60.0


def files_clean(*tables: str) -> bool:
    """Does nothing within a transaction. False when old copies may still be in the files, until the next time.

    SQLite overwrites what it deletes (secure_delete); its write-ahead log is emptied here. On PostgreSQL the small
    `tables` are vacuumed.
    """
    if connection.in_atomic_block:
        return False
    if connection.vendor == "postgresql":
        return _vacuum(tables)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        before = int(cursor.fetchone()[0])
        cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
        try:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy = bool(cursor.fetchone()[0])
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {before}")
    return not busy


def _vacuum(tables: tuple[str, ...]) -> bool:
    """On a connection of its own, which may take longer than a request's."""
    if not tables:
        return True
    try:
        session = DeadlineConnection.connect(**connection.get_connection_params(), autocommit=True)
        with closing(session):
            session.limit = VACUUM_SECONDS + 1
            session.execute(f"SET statement_timeout = '{VACUUM_SECONDS:g}s'")
            for table in tables:
                session.execute(sql.SQL("VACUUM {}").format(sql.Identifier(table)))
    except psycopg.Error as error:
        log.warning("files.not_cleaned", cause=type(error).__name__)
        return False
    return True
