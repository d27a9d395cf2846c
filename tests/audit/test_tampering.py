"""What an owner of the database can do to the trail, past the triggers, and what `audit verify` says of it."""

import json
import uuid
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection

from audit import actions, notes, verification
from audit.canonical import canonical_json
from audit.merkle import leaf_hash
from audit.models import Checkpoint, Event, Leaf, Stream, Tile
from audit.publishing import checkpoints_publish
from audit.sealing import log_seal
from audit.services import event_record
from audit.signing import signer
from audit.verification import log_verify
from audit.verifying import event_checks
from tests.tampering import tamper, triggers_drop


@pytest.fixture
def trail(db, settings, tmp_path):
    """270 events in two checkpoints, the second one published; one full tile."""
    settings.AUDIT_CHECKPOINT_DIR = str(tmp_path / "published")
    (tmp_path / "published").mkdir()
    for number in range(270):
        event_record(kind=actions.LOGIN_SUCCEEDED, stream=f"s{number % 3}", actor_ref="a" * 32, facts={})
        if number == 130:
            log_seal()
    log_seal()
    checkpoints_publish()
    report = log_verify()
    assert report.findings == []
    assert (report.events, report.unsealed, report.checkpoints) == (Event.objects.count(), 0, 2)
    return list(Event.objects.order_by("id").select_related("log_leaf"))


def found():
    report = log_verify()
    assert not report.ok
    return {finding.code for finding in report.findings}


def named(code):
    return [finding.where for finding in log_verify().findings if finding.code == code]


def body_of(event, **changes):
    return canonical_json({**json.loads(bytes(event.body)), **changes})


def test_an_edited_body_is_named(trail):
    event = trail[100]
    tamper("UPDATE audit_event SET body = %s WHERE id = %s", body_of(event, facts={"forged": 1}), event.pk)
    assert found() == {"body_edited"}
    assert named("body_edited") == [f"event {event.uid} (leaf {event.log_leaf.index})"]
    event.refresh_from_db()
    assert not event_checks(event)[0].ok


def test_an_edited_body_with_its_hash_is_named(trail):
    event = trail[100]
    body = body_of(event, facts={"forged": 1})
    tamper("UPDATE audit_event SET body = %s, leaf = %s WHERE id = %s", body, leaf_hash(body), event.pk)
    assert found() == {"body_edited", "leaf_edited"}
    event.refresh_from_db()
    assert [check.name for check in event_checks(event) if not check.ok] == ["Hash"]


def test_an_edited_body_with_all_hashes_is_named_by_tile_and_root(trail):
    event = trail[100]
    body = body_of(event, facts={"forged": 1})
    tamper("UPDATE audit_event SET body = %s, leaf = %s WHERE id = %s", body, leaf_hash(body), event.pk)
    tamper("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", leaf_hash(body), event.pk)
    assert found() == {"root_differs", "tile_differs"}
    assert f"{event.log_leaf.index}" in " ".join(f.detail for f in log_verify().findings if f.code == "tile_differs")
    event.refresh_from_db()
    assert "Place in the log" in [check.name for check in event_checks(event) if not check.ok]


def test_a_log_made_anew_under_another_key_is_named(trail, settings):
    """The owner rewrites an event, forgets the log and seals it all again; he has not the key."""
    event = trail[100]
    body = body_of(event, facts={"forged": 1})
    tamper("UPDATE audit_event SET body = %s, leaf = %s WHERE id = %s", body, leaf_hash(body), event.pk)
    for table in ("audit_leaf", "audit_tile", "audit_checkpoint", "audit_signing_key"):
        tamper(f"DELETE FROM {table}")
    directory, key = settings.AUDIT_CHECKPOINT_DIR, settings.AUDIT_SIGNING_KEY
    settings.AUDIT_CHECKPOINT_DIR, settings.AUDIT_SIGNING_KEY = "", "A" * 43 + "="
    log_seal()
    settings.AUDIT_CHECKPOINT_DIR, settings.AUDIT_SIGNING_KEY = directory, key
    assert found() >= {"checkpoint_forged", "root_differs"}
    # With the key as well only what was published tells.
    for table in ("audit_leaf", "audit_tile", "audit_checkpoint"):
        tamper(f"DELETE FROM {table}")
    settings.AUDIT_CHECKPOINT_DIR = ""
    log_seal()
    settings.AUDIT_CHECKPOINT_DIR = directory
    assert found() == {"root_differs"}
    assert all(where.startswith("published") for where in named("root_differs"))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "login.failed"),
        ("actor_ref", "b" * 32),
        ("stream", "elsewhere"),
        ("stream_seq", 9999),
        ("uid", None),
        ("at", None),
        ("leaf", b"\x00" * 32),
    ],
)
def test_an_edited_column_is_named(trail, column, value):
    event = trail[100]
    if column == "uid":
        value = uuid.uuid4()
        value = value if connection.vendor == "postgresql" else value.hex
    if column == "at":
        value = event.at - timedelta(seconds=1)
    tamper(f"UPDATE audit_event SET {column} = %s WHERE id = %s", value, event.pk)
    codes = found()
    assert ("leaf_edited" if column == "leaf" else "column_edited") in codes
    event.refresh_from_db()
    assert not all(check.ok for check in event_checks(event))


def test_a_deleted_row_is_named(trail):
    event = trail[100]
    tamper("DELETE FROM audit_event WHERE id = %s", event.pk)
    assert found() == {"event_deleted", "stream_gap"}
    assert named("event_deleted") == [f"event {event.pk} (leaf {event.log_leaf.index})"]
    gap = next(finding for finding in log_verify().findings if finding.code == "stream_gap")
    assert gap.where == f"stream {event.stream}"
    assert f"missing: {event.stream_seq}" in gap.detail


def test_a_deleted_row_with_its_leaf_is_named(trail):
    event = trail[100]
    tamper("DELETE FROM audit_event WHERE id = %s", event.pk)
    tamper("DELETE FROM audit_leaf WHERE event_id = %s", event.pk)
    assert found() >= {"leaf_missing", "stream_gap", "root_differs"}
    assert named("leaf_missing") == [f"leaf {event.log_leaf.index}"]


def test_a_row_that_is_deleted_and_inserted_again_is_named(trail):
    event = trail[100]
    columns = "uid, at, kind, stream, stream_seq, actor_ref, body, leaf"
    tamper(f"CREATE TEMPORARY TABLE kept AS SELECT {columns} FROM audit_event WHERE id = {event.pk}")
    tamper("DELETE FROM audit_event WHERE id = %s", event.pk)
    tamper(f"INSERT INTO audit_event ({columns}) SELECT {columns} FROM kept")
    tamper("DROP TABLE kept")
    assert named("event_deleted") == [f"event {event.pk} (leaf {event.log_leaf.index})"]
    log_seal()
    # Sealed again it comes out of its order.
    assert named("event_deleted") == [f"event {event.pk} (leaf {event.log_leaf.index})"]


def test_swapped_rows_are_named(trail):
    one, other = trail[100], trail[103]
    for first, second in ((one, -1), (other, one.pk), (one, other.pk)):
        source = -1 if first is one and second == other.pk else first.pk
        tamper("UPDATE audit_event SET id = %s WHERE id = %s", second, source)
    assert found() == {"body_edited", "leaf_edited"}
    assert len(named("body_edited")) == 2


def test_swapped_leaves_are_named(trail):
    one, other = trail[100].log_leaf, trail[103].log_leaf
    tamper('UPDATE audit_leaf SET "index" = -1 WHERE "index" = %s', one.index)
    tamper('UPDATE audit_leaf SET "index" = %s WHERE "index" = %s', one.index, other.index)
    tamper('UPDATE audit_leaf SET "index" = %s WHERE "index" = -1', other.index)
    assert found() == {"root_differs", "tile_differs"}


@pytest.mark.parametrize("counters", [True, False])
def test_a_truncated_tail_is_named(trail, settings, counters):
    """Events, leaves and the last checkpoint. With the counters set back as well all fits together, as in an old copy
    of the file: only what was published tells."""
    size = Checkpoint.objects.order_by("size").first().size
    tamper('DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_leaf WHERE "index" >= %s)', size)
    tamper('DELETE FROM audit_leaf WHERE "index" >= %s', size)
    tamper("DELETE FROM audit_checkpoint WHERE size > %s", size)
    tamper('DELETE FROM audit_tile WHERE ("index" + 1) * 256 > %s', size)
    if counters:
        assert found() == {"log_truncated", "stream_truncated"}
        return
    for stream in Stream.objects.all():
        left = Event.objects.filter(stream=stream.name).count()
        Stream.objects.filter(pk=stream.pk).update(last_seq=left)
    assert found() == {"log_truncated"}
    assert all(where.startswith("published") for where in named("log_truncated"))


def test_events_cut_off_before_they_were_sealed_are_named(trail):
    event = event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="", facts={})
    assert log_verify().ok
    tamper("DELETE FROM audit_event WHERE id = %s", event.pk)
    assert named("stream_truncated") == ["stream s0"]


def test_a_stream_numbered_elsewhere_is_counted_as_well(trail):
    assert log_verify(counters=lambda: iter([("s0", 90)])).ok
    report = log_verify(counters=lambda: iter([("session:x", 2)]))
    assert [finding.where for finding in report.findings] == ["stream session:x"]


def test_a_dropped_trigger_is_named(trail):
    triggers_drop()
    assert found() == {"trigger"}
    assert len(named("trigger")) >= 10


def test_a_forged_checkpoint_is_named(trail):
    head = Checkpoint.objects.order_by("-size").first()
    forged = notes.Signer("onesource/audit", b"f" * 32).sign(
        notes.Checkpoint("onesource/audit", head.size, b"r" * 32).text()
    )
    tamper("UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s", forged, b"r" * 32, head.size)
    assert found() == {"checkpoint_forged"}
    assert named("checkpoint_forged") == [f"checkpoint {head.size}"]
    tamper("UPDATE audit_checkpoint SET note = %s WHERE size = %s", head.note, head.size)
    assert "the row does not say what was signed" in [finding.detail for finding in log_verify().findings]


def test_a_checkpoint_under_the_right_key_of_another_log_is_named(trail):
    head = Checkpoint.objects.order_by("-size").first()
    forged = signer().sign(notes.Checkpoint("onesource/audit", head.size, b"r" * 32).text())
    tamper("UPDATE audit_checkpoint SET note = %s, root = %s WHERE size = %s", forged, b"r" * 32, head.size)
    assert found() == {"root_differs"}


def test_a_tile_that_was_edited_or_removed_is_named(trail):
    tile = Tile.objects.get()
    tamper("UPDATE audit_tile SET root = %s WHERE id = %s", b"r" * 32, tile.pk)
    assert named("tile_differs") == ["tile 0/0"]
    tamper("DELETE FROM audit_tile WHERE id = %s", tile.pk)
    assert named("tile_missing") == ["tile 0/0"]
    Tile.objects.create(level=0, index=0, hashes=bytes(tile.hashes), root=bytes(tile.root))
    Tile.objects.create(level=1, index=0, hashes=b"", root=b"")
    assert named("tile_extra") == ["tile 1/0"]


def test_an_event_that_waits_too_long_is_named_and_a_backdated_one_noticed(trail):
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="", facts={}, at=trail[0].at - timedelta(days=40))
    report = log_verify()
    assert {finding.code for finding in report.findings} == {"unsealed", "out_of_time"}
    log_seal()
    report = log_verify()
    assert report.ok
    assert [finding.code for finding in report.findings] == ["out_of_time"]


def test_an_event_that_waits_is_verified_as_well(trail):
    event = event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="", facts={})
    tamper("UPDATE audit_event SET kind = 'login.failed' WHERE id = %s", event.pk)
    assert named("column_edited") == [f"event {event.uid} (not sealed yet)"]


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"facts": 1}', b"[" * 60_000])
def test_garbage_in_a_body_is_named_and_ends_nothing(trail, body):
    tamper("UPDATE audit_event SET body = %s, leaf = %s WHERE id = %s", body, leaf_hash(body), trail[100].pk)
    assert found() >= {"body_edited"}
    assert Leaf.objects.count() == log_verify().events


# Rows that somebody with the product's own rights can add, or an owner can spoil: named, and never the end of it.

GARBAGE = {
    "uid": ["zzz"],
    "at": ["garbage", "0001-01-01 00:00:00", "infinity"],
    "stream_seq": ["abc", 10**12],
    "kind": [""],
    "leaf": ["text", b"short", b""],
    "body": ["text", '{"facts": {}}'],
}


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column, values in GARBAGE.items() for value in values]
)
def test_garbage_in_a_column_is_named(trail, column, value):
    if connection.vendor == "postgresql" and value in ("zzz", "garbage", "abc"):
        pytest.skip("of another type than the column, which PostgreSQL does not take")
    tamper(f"UPDATE audit_event SET {column} = %s WHERE id = %s", value, trail[100].pk)
    codes = found()
    assert codes & {"column_edited", "leaf_edited", "body_edited"}
    assert "trigger" not in codes


@pytest.mark.parametrize("value", ["text", b"", b"x" * 33])
@pytest.mark.parametrize(
    ("table", "column"), [("audit_leaf", "hash"), ("audit_checkpoint", "root"), ("audit_tile", "hashes")]
)
def test_garbage_in_the_log_is_named(trail, table, column, value):
    tamper(f"UPDATE {table} SET {column} = %s", value)
    assert found() & {"leaf_edited", "checkpoint_forged", "tile_differs"}


@pytest.mark.parametrize("note", [b"\xff\xfe", "", "no note"])
def test_a_note_that_is_none_is_named(trail, note):
    if connection.vendor == "postgresql" and isinstance(note, bytes):
        pytest.skip("a text column takes no bytes there")
    tamper("UPDATE audit_checkpoint SET note = %s", note)
    assert found() == {"checkpoint_forged"}


@pytest.mark.parametrize("leaf", [b"no hash", "é" * 32])
def test_a_leaf_that_is_no_hash_does_not_stop_the_sealing(trail, leaf):
    event = trail[0]
    row = {name: getattr(event, name) for name in ("at", "kind", "stream", "actor_ref", "body")}
    spoilt = Event.objects.create(**row, stream_seq=5000, leaf=b"no hash")
    tamper("UPDATE audit_event SET leaf = %s WHERE id = %s", leaf, spoilt.pk)
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="auth", actor_ref="", facts={})
    assert log_seal() == 1
    assert "leaf_edited" in found()


@pytest.mark.parametrize("place", [-1, 2**63 - 1, -1e300, 0.5, 1e300, "zzz", b"zzz"])
def test_an_event_at_a_place_that_is_none_is_named(trail, place):
    """Neither in the log nor waiting for it: nobody would look at it again."""
    if connection.vendor == "postgresql" and not isinstance(place, int):
        pytest.skip("of another type than the column, which PostgreSQL does not take")
    event = event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="a" * 32, facts={})
    tamper('INSERT INTO audit_leaf ("index", event_id, hash) VALUES (%s, %s, %s)', place, event.pk, event.leaf)
    report = log_verify()
    assert [finding.where for finding in report.findings if finding.code == "leaf_edited"] == [f"event {event.pk}"]
    assert report.events == Event.objects.count()


@pytest.mark.skipif("postgres" in settings.DATABASES["default"]["ENGINE"], reason="PostgreSQL takes no such value")
def test_a_time_that_is_none_is_named_though_the_body_says_the_same(trail):
    event = trail[100]
    body = body_of(event, at="x")
    tamper("UPDATE audit_event SET at = 'x', body = %s, leaf = %s WHERE id = %s", body, leaf_hash(body), event.pk)
    tamper("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", leaf_hash(body), event.pk)
    assert "column_edited" in found()


def test_events_sealed_while_it_is_verified_are_no_gap(trail, monkeypatch):
    """In neither of two reads: sealed after the leaves were read, before the events without one were."""
    read = verification._Verification._unsealed_walk

    def sealed_first(self):
        log_seal()
        read(self)

    monkeypatch.setattr(verification._Verification, "_unsealed_walk", sealed_first)
    for _ in range(300):
        event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="", facts={})
    assert log_verify().findings == []


def test_checkpoints_of_another_log_are_noticed_and_not_held_against_this_one(trail, settings):
    """After the way out of a fork: a new log over the same events."""
    settings.AUDIT_VERIFY_KEYS = [signer().vkey]
    settings.AUDIT_LOG_ORIGIN = "onesource/audit/2"
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="", facts={})
    log_seal()
    report = log_verify()
    assert report.ok
    assert {finding.code for finding in report.findings} == {"other_log"}


def test_an_emptied_or_missing_directory_is_named(trail, settings, tmp_path):
    settings.AUDIT_CHECKPOINT_DIR = str(tmp_path / "elsewhere")
    assert found() == {"published_missing"}
    (tmp_path / "elsewhere").mkdir()
    assert found() == {"published_missing"}
