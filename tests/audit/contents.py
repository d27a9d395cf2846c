"""Contents of turns as old as a test needs them, and what is left of them."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from audit.holds import hold_place
from audit.models import Event, LegalHold, TurnContent
from audit.selectors import facts_of as facts_in
from audit.services import content_store, event_record

PLANTED = "planted-secret-4711"
RETENTION = timedelta(days=30)


def stored(
    *, expired: timedelta = timedelta(0), session_id: uuid.UUID | None = None, seq: int = 1, subject_ref: str = "a" * 32
) -> TurnContent:
    """A content that expired so long ago; without that one of this moment."""
    at = timezone.now() - (RETENTION + expired if expired else expired)
    with transaction.atomic():
        row = content_store(
            turn_id=uuid.uuid4(),
            session_id=session_id or uuid.uuid4(),
            seq=seq,
            subject_ref=subject_ref,
            payload={"question": f"{PLANTED} {seq}", "answer_text": "1000 mm", "salt": "00"},
            at=at,
            retention=RETENTION,
        )
    return TurnContent.objects.select_related("key").get(pk=row.pk)


def session_begun() -> uuid.UUID:
    """The id of a session that is on record, for holds."""
    session_id = uuid.uuid4()
    facts = {"session_id": str(session_id), "turns_erased": 0}
    event_record(kind="session.deleted", stream=f"session:{session_id}", actor_ref="", facts=facts)
    return session_id


def held_in_time(session_id: uuid.UUID) -> None:
    """A hold that was there before anything of today's tests expired."""
    hold_place(session_id=session_id, reason="case", actor_ref="", source="tests")
    LegalHold.objects.filter(session_id=session_id).update(placed_at=timezone.now() - 2 * RETENTION)


def facts_of(kind: str) -> list[dict[str, Any]]:
    return [facts_in(event) for event in Event.objects.filter(kind=kind).order_by("pk")]


def trail() -> list[Any]:
    """All that the trail says, to be compared with what it says later."""
    return [
        (event.pk, event.uid, bytes(event.body), bytes(event.leaf)) for event in Event.objects.order_by("pk").iterator()
    ]


@contextmanager
def refused(table: str, when: str) -> Iterator[None]:
    """Every insert into `table` for which `when` (SQL over NEW) holds fails, as at a crash in that place."""
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if postgresql:
            cursor.execute(
                "CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$"
            )
            cursor.execute(
                f"CREATE TRIGGER test_refuse BEFORE INSERT ON {table} FOR EACH ROW WHEN ({when}) "
                "EXECUTE FUNCTION test_refuse()"
            )
        else:
            cursor.execute(
                f"CREATE TRIGGER test_refuse BEFORE INSERT ON {table} WHEN {when} "
                "BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TRIGGER test_refuse{f' ON {table}' if postgresql else ''}")
            if postgresql:
                cursor.execute("DROP FUNCTION test_refuse()")


def sqlite_bytes() -> bytes:
    """Of the database's files, the write-ahead log among them."""
    name = Path(str(connection.settings_dict["NAME"]))
    return b"".join(path.read_bytes() for path in (name, Path(f"{name}-wal")) if path.exists())


def postgres_directory() -> Path:
    with connection.cursor() as cursor:
        cursor.execute("SHOW data_directory")
        return Path(cursor.fetchone()[0])
