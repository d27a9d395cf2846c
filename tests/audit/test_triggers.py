"""The trail's tables refuse every change, on both databases, and say so when a trigger is gone."""

import io

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from audit import actions
from audit.models import Checkpoint, Event, Leaf, SigningKey, Tile
from audit.services import event_record
from audit.triggers import TABLES, triggers_install, triggers_wrong
from tests.tampering import triggers_drop

postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="only PostgreSQL has it")
sqlite = pytest.mark.skipif(connection.vendor != "sqlite", reason="only SQLite has it")


@pytest.fixture
def rows(db):
    """One row in every table of the trail."""
    event = event_record(kind=actions.LOGIN_SUCCEEDED, stream="auth", actor_ref="", facts={})
    Leaf.objects.create(index=0, event=event, hash=event.leaf)
    Tile.objects.create(level=0, index=0, hashes=b"h", root=b"r")
    Checkpoint.objects.create(size=1, root=event.leaf, note="note", at=timezone.now(), event_ceiling=event.pk)
    SigningKey.objects.create(vkey="v", first_used_at=timezone.now())


def execute(sql, *parameters):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


COLUMN = {
    "audit_event": "actor_ref",
    "audit_leaf": "event_id",
    "audit_tile": "level",
    "audit_checkpoint": "event_ceiling",
    "audit_signing_key": "first_used_at",
}


@pytest.mark.parametrize("table", TABLES)
def test_update_and_delete_are_refused(rows, table):
    for sql in (f"UPDATE {table} SET {COLUMN[table]} = {COLUMN[table]}", f"DELETE FROM {table}"):
        with pytest.raises(DatabaseError, match="append only"):
            execute(sql)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        assert cursor.fetchone()[0] >= 1


@pytest.mark.parametrize("model", [Event, Leaf, Tile, Checkpoint, SigningKey])
def test_the_orm_is_refused_as_well(rows, model):
    row = model.objects.first()
    for change in (row.save, row.delete, model.objects.all().delete):
        with pytest.raises(DatabaseError, match="append only"), transaction.atomic():
            change()


@postgresql
@pytest.mark.parametrize("table", TABLES)
def test_truncate_is_refused(rows, table):
    with pytest.raises(IntegrityError, match="append only"):
        execute(f"TRUNCATE {table} CASCADE")


@postgresql
def test_a_replica_role_does_not_switch_them_off(rows):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        with pytest.raises(IntegrityError, match="append only"), transaction.atomic():
            cursor.execute("DELETE FROM audit_event")


@postgresql
def test_on_conflict_do_update_is_refused(rows):
    with pytest.raises(IntegrityError, match="append only"):
        execute(
            "INSERT INTO audit_leaf (index, event_id, hash) SELECT index, event_id, hash FROM audit_leaf "
            "ON CONFLICT (index) DO UPDATE SET hash = excluded.hash"
        )


@sqlite
@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize("same", ["id", "uid", "stream, stream_seq"])
def test_insert_or_replace_is_refused(rows, same, recursive):
    """Whichever key is the same; a BEFORE DELETE trigger alone fires only with recursive_triggers."""
    columns = ["id", "uid", "at", "kind", "stream", "stream_seq", "actor_ref", "body", "leaf"]
    other = {"id": "id + 1000", "uid": "'0' || substr(uid, 2)", "stream_seq": "stream_seq + 1000"}
    chosen = ", ".join(c if c in same.split(", ") else other.get(c, c) for c in columns)
    before = list(Event.objects.order_by("id").values_list("id", "uid"))
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA recursive_triggers = {recursive}")
    try:
        with pytest.raises(IntegrityError, match="append only"):
            execute(f"INSERT OR REPLACE INTO audit_event ({', '.join(columns)}) SELECT {chosen} FROM audit_event")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA recursive_triggers = ON")
    assert list(Event.objects.order_by("id").values_list("id", "uid")) == before


@sqlite
def test_a_row_of_the_id_minus_one_does_not_refuse_every_other(rows):
    execute(
        "INSERT INTO audit_event (id, uid, at, kind, stream, stream_seq, actor_ref, body, leaf) "
        "SELECT -1, 'other', at, kind, stream, 99, actor_ref, body, leaf FROM audit_event LIMIT 1"
    )
    before = Event.objects.count()
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="auth", actor_ref="", facts={})
    assert Event.objects.count() == before + 1


def test_what_is_missing_is_named_by_the_system_check_and_put_back_on_record(rows):
    assert triggers_wrong() == []
    triggers_drop()
    wrong = triggers_wrong()
    assert len(wrong) == len(TABLES) * (2 if connection.vendor == "postgresql" else 3)
    found = [message for message in run_checks(databases=["default"]) if message.id == "audit.W001"]
    assert [name for name in wrong if not any(name in message.msg for message in found)] == []

    call_command("migrate", stdout=io.StringIO(), verbosity=0)

    assert triggers_wrong() == []
    assert Event.objects.filter(kind=actions.TRIGGERS_RESTORED).count() == 1
    assert not [message for message in run_checks(databases=["default"]) if message.id == "audit.W001"]


def test_installing_again_changes_nothing(rows):
    assert triggers_install() == []
    call_command("migrate", stdout=io.StringIO(), verbosity=0)
    assert not Event.objects.filter(kind=actions.TRIGGERS_RESTORED).exists()


REPLACE = "CREATE OR REPLACE TRIGGER audit_event_no_change"
CALL = "EXECUTE FUNCTION audit_append_only()"


@postgresql
@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE audit_event DISABLE TRIGGER audit_event_no_change",
        "ALTER TABLE audit_event ENABLE TRIGGER audit_event_no_change",
        "DROP TRIGGER audit_event_no_change ON audit_event",
        f"{REPLACE} BEFORE UPDATE ON audit_event FOR EACH ROW {CALL}",
        f"{REPLACE} BEFORE UPDATE OF kind OR DELETE ON audit_event FOR EACH ROW {CALL}",
        f"{REPLACE} BEFORE UPDATE OR DELETE ON audit_event FOR EACH ROW WHEN (OLD.id < 0) {CALL}",
        "CREATE OR REPLACE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_a_trigger_that_does_less_is_named_and_mended(rows, harm):
    execute(harm)
    assert "audit_event_no_change" in triggers_wrong()
    triggers_install()
    assert triggers_wrong() == []
    with pytest.raises(IntegrityError, match="append only"):
        execute("DELETE FROM audit_event")


@sqlite
def test_a_remade_table_loses_its_triggers_and_migrate_puts_them_back(transactional_db):
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="auth", actor_ref="", facts={})
    with connection.schema_editor() as editor:
        editor._remake_table(Event)
    assert triggers_wrong() != []
    call_command("migrate", stdout=io.StringIO(), verbosity=0)
    assert triggers_wrong() == []
