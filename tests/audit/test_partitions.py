"""On PostgreSQL: contents lie in partitions by the day of their expiry, and a day that is over is dropped."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
import structlog
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from audit import partitions, retention
from audit.holds import hold_place, hold_release
from audit.models import ContentKey, HeldContent, TurnContent
from audit.partitions import (
    DEFAULT_RETENTION,
    partition_days,
    partition_detach,
    partition_drop,
    partitioned,
    partitions_make,
)
from audit.retention import purge_run
from audit.selectors import content_for_review, content_of, content_read, contents_last, contents_overdue
from onesource.postgresql.connection import DeadlineConnection
from tests.audit.contents import facts_of, held_in_time, refused, session_begun, stored

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="partitions are PostgreSQL's"),
]
PURGE_EVENT = "NEW.kind = 'content.purged'"
TWO_DAYS = timedelta(days=2)


@pytest.fixture(autouse=True)
def partitions_as_before() -> Iterator[None]:
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT c.relname FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'turn\\_content\\_p2%'")
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TABLE {name}")
    partitions_make(retention=DEFAULT_RETENTION)


def partition_of(row: TurnContent) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM turn_content WHERE turn_id = %s", [row.pk])
        return cursor.fetchone()[0]


def day_of(when: datetime) -> date:
    return when.astimezone(UTC).date()


def past_day(ago: timedelta = TWO_DAYS) -> date:
    """The day that contents which expired so long ago lie in; its partition is made."""
    partitions_make(retention=-ago)
    return day_of(timezone.now() - ago)


def test_new_contents_find_the_partition_of_their_day() -> None:
    row = stored()
    assert partition_of(row) == f"turn_content_p{row.expires_at:%Y%m%d}"
    assert content_of(row.turn_id) == row
    assert contents_last(row.session_id, 5) == [row]


def test_what_has_no_partition_is_in_the_default_one() -> None:
    assert partition_of(stored(expired=timedelta(days=40))) == "turn_content_default"


def test_partitions_are_made_once_for_the_days_ahead() -> None:
    made = partitions_make(retention=timedelta(days=100))
    first = day_of(timezone.now() + timedelta(days=100))
    assert made == [first + timedelta(days=days) for days in range(4)]
    assert partitions_make(retention=timedelta(days=100)) == []
    assert set(made) <= set(partition_days(attached=True))


def test_a_day_that_the_default_partition_has_contents_of_is_left_to_it() -> None:
    row = stored(expired=TWO_DAYS)
    made = partitions_make(retention=-TWO_DAYS)
    assert day_of(row.expires_at) not in made
    assert len(made) == 3
    assert partitions_make(retention=-TWO_DAYS) == []


def test_two_workers_make_them_at_once() -> None:
    made: list[list[date]] = []

    def make() -> None:
        try:
            made.append(partitions_make(retention=timedelta(days=200)))
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, made)) == [0, 0, 4]


def test_turns_are_not_kept_waiting_for_a_partition() -> None:
    day = past_day()
    with_turn_open = threading.Event()
    over = threading.Event()

    def turn() -> None:
        try:
            with transaction.atomic():
                stored(subject_ref="c" * 32)
                with_turn_open.set()
                over.wait(10)
        finally:
            connection.close()

    thread = threading.Thread(target=turn)
    thread.start()
    with_turn_open.wait(10)
    try:
        assert partitions_make(retention=timedelta(days=300)) == []
        assert partition_detach(day) is False
        purged = purge_run()
        assert (purged.turns, purged.finished) == (0, False)
    finally:
        over.set()
        thread.join()
    assert len(partitions_make(retention=timedelta(days=300))) == 4
    assert purge_run().finished
    assert day not in partition_days(attached=True)


def test_a_day_that_is_over_is_dropped_whole_with_its_keys_and_one_event() -> None:
    day = past_day()
    rows = [stored(expired=TWO_DAYS, seq=seq) for seq in range(1, 6)]
    assert {partition_of(row) for row in rows} == {f"turn_content_p{day:%Y%m%d}"}
    kept = stored()
    assert contents_overdue() == 5
    purged = purge_run()
    assert (purged.turns, purged.keys, purged.finished) == (5, 1, True)
    assert (TurnContent.objects.get(), ContentKey.objects.get()) == (kept, kept.key)
    assert day not in partition_days(attached=True) + partition_days(attached=False)
    (facts,) = facts_of("content.purged")
    assert (facts["turns"], facts["how"]) == (5, "partition")
    assert facts["before"].startswith(str(day + timedelta(days=1)))
    assert purge_run().turns == 0


def test_an_empty_day_goes_without_an_event() -> None:
    day = past_day()
    assert purge_run().turns == 0
    assert day not in partition_days(attached=True)
    assert facts_of("content.purged") == []


def test_what_expired_today_waits_for_the_end_of_its_day_and_is_not_read() -> None:
    row = stored()
    moment = datetime.combine(timezone.now().date(), datetime.min.time(), UTC)
    TurnContent.objects.update(expires_at=moment)
    assert purge_run().turns == 0
    assert content_of(row.turn_id) is None
    assert contents_overdue() == 0


@pytest.mark.parametrize("late", [False, True])
def test_held_contents_of_a_dropped_day_are_kept_aside(late) -> None:
    """Also of one that is taken off and not dropped: the copy is made with the detaching."""
    day = past_day()
    session_id = session_begun()
    held = stored(expired=TWO_DAYS, session_id=session_id)
    stored(expired=TWO_DAYS, seq=2)
    held_in_time(session_id)
    if late:
        partition_detach(day)
        assert HeldContent.objects.count() == 1
    purged = purge_run()
    assert (purged.turns, purged.held) == (1, 1)
    assert content_read(content_for_review(held.turn_id)) == content_read(held)
    assert [(facts["turns"], facts["held"]) for facts in facts_of("content.purged")] == [(1, 1)]


def test_killed_after_taking_a_day_off_the_next_run_drops_and_records_it() -> None:
    day = past_day()
    stored(expired=TWO_DAYS)
    assert partition_detach(day)
    assert partition_days(attached=False) == [day]
    assert not TurnContent.objects.exists()
    assert purge_run().turns == 1
    assert len(facts_of("content.purged")) == 1
    assert partition_days(attached=False) == []


def test_without_its_event_no_day_is_dropped() -> None:
    day = past_day()
    stored(expired=TWO_DAYS)
    with refused("audit_event", PURGE_EVENT), pytest.raises(DatabaseError):
        purge_run()
    assert partition_days(attached=False) == [day]
    assert purge_run().turns == 1


def test_a_day_is_dropped_once() -> None:
    day = past_day()
    stored(expired=TWO_DAYS)
    assert partition_detach(day)
    assert partition_detach(day)
    assert (partition_drop(day).turns, partition_drop(day).turns) == (1, 0)
    assert len(facts_of("content.purged")) == 1


def test_no_content_is_under_a_key_that_is_gone() -> None:
    """The reference holds for a partitioned table as well."""
    row = stored()
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM content_key WHERE id = %s", [row.key_id])
    with pytest.raises(DatabaseError), transaction.atomic():
        TurnContent.objects.create(
            turn_id=uuid.uuid4(), session_id=uuid.uuid4(), seq=1, key_id=row.key_id + 1000, sealed=b"x",
            created_at=row.created_at, expires_at=row.expires_at,
        )  # fmt: skip


def test_a_hold_that_comes_after_the_expiry_keeps_nothing_of_a_dropped_day() -> None:
    past_day()
    session_id = session_begun()
    stored(expired=TWO_DAYS, session_id=session_id)
    hold_place(session_id=session_id, reason="case", actor_ref="", source="tests")
    purged = purge_run()
    assert (purged.turns, purged.held) == (1, 0)
    assert not HeldContent.objects.exists()


def test_a_release_while_a_day_is_taken_off_leaves_no_copy(monkeypatch) -> None:
    day = past_day()
    session_id = session_begun()
    stored(expired=TWO_DAYS, session_id=session_id)
    held_in_time(session_id)

    def release() -> None:
        try:
            hold_release(session_id=session_id, reason="closed", actor_ref="", source="tests")
        finally:
            connection.close()

    thread = threading.Thread(target=release)
    days = partitions.partition_days

    def interrupted(*, attached: bool) -> list[date]:
        thread.start()
        thread.join(0.3)
        return days(attached=attached)

    monkeypatch.setattr(partitions, "partition_days", interrupted)
    assert partition_detach(day)
    monkeypatch.undo()
    thread.join(10)
    assert not HeldContent.objects.exists()
    assert [facts["turns_deleted"] for facts in facts_of("hold.released")] == [1]


# What takes too long


@contextmanager
def slow(statement: str) -> Iterator[None]:
    """What begins so takes 0.8 s, and a statement may take 0.3 s, a wait for the server 0.5 s."""

    def slowed(execute, sql, params, many, context):
        if sql.startswith(statement):
            sql = sql.replace(" FROM ", " FROM (SELECT pg_sleep(0.8)) slept CROSS JOIN ", 1)
        return execute(sql, params, many, context)

    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 300")
    try:
        with connection.execute_wrapper(slowed):
            yield
    finally:
        connection.close()


def test_a_day_that_takes_long_to_count_is_dropped_all_the_same(monkeypatch) -> None:
    day = past_day()
    stored(expired=TWO_DAYS)
    assert partition_detach(day)
    monkeypatch.setattr(DeadlineConnection, "limit", 0.5)
    with slow("SELECT count(*), count(h.turn_id)"):
        assert purge_run().turns == 1
        assert connection.connection.limit == 0.5
        with connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone()[0] == "300ms"


def test_a_day_that_cannot_be_dropped_keeps_no_other_and_is_counted(monkeypatch) -> None:
    old, young = past_day(timedelta(days=4)), past_day()
    for expired in (timedelta(days=4), TWO_DAYS, timedelta(days=40)):
        stored(expired=expired)
    assert partition_detach(old)
    drop = partitions.partition_drop

    def failing(day: date):
        if day == old:
            raise OperationalError("as always")
        return drop(day)

    monkeypatch.setattr(retention, "partition_drop", failing)
    with pytest.raises(OperationalError, match="as always"):
        purge_run()
    assert young not in partition_days(attached=True) + partition_days(attached=False)
    assert not TurnContent.objects.exists()
    assert sum(facts["turns"] for facts in facts_of("content.purged")) == 2
    assert contents_overdue() == 1
    monkeypatch.undo()
    assert purge_run().turns == 1
    assert contents_overdue() == 0


def test_what_is_dropped_by_another_worker_is_left_to_it() -> None:
    day = past_day()
    stored(expired=TWO_DAYS)
    assert partition_detach(day)
    name = f"turn_content_p{day:%Y%m%d}"
    dropped = []

    def drop() -> None:
        try:
            dropped.append(partition_drop(day).turns)
        finally:
            connection.close()

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [name])
        thread = threading.Thread(target=drop)
        thread.start()
        thread.join(2)
        assert dropped == [0]
    assert partition_drop(day).turns == 1


def test_a_day_that_takes_long_to_be_taken_off_goes_in_batches_in_the_end() -> None:
    old, young = past_day(timedelta(days=4)), past_day()
    for expired in (timedelta(days=4), TWO_DAYS):
        stored(expired=expired)
    with slow("INSERT INTO held_content"):
        purged = purge_run()
    assert (purged.turns, purged.finished) == (1, False)
    assert {old, young} <= set(partition_days(attached=True))
    assert day_of(TurnContent.objects.get().expires_at) == young
    assert purge_run().turns == 1


def test_partitions_that_take_too_long_to_make_are_left_for_the_next_time(monkeypatch) -> None:
    monkeypatch.setattr(partitions, "_lock", lambda cursor, keys: cursor.execute("SELECT pg_sleep(1)"))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 100")
    try:
        assert partitions_make(retention=timedelta(days=400)) == []
    finally:
        connection.close()
    monkeypatch.undo()
    assert len(partitions_make(retention=timedelta(days=400))) == 4


# Clocks


@pytest.mark.parametrize("days", [32, -32])
def test_with_a_clock_that_is_far_from_the_databases_nothing_is_deleted(monkeypatch, days) -> None:
    for expired in (TWO_DAYS, timedelta(0), timedelta(days=40)):
        stored(expired=expired)
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(days=days))
    with structlog.testing.capture_logs() as logged:
        purged = purge_run()
    assert (purged.turns, purged.keys, purged.finished) == (0, 0, False)
    assert [(line["event"], line["log_level"]) for line in logged] == [("purge.clocks_differ", "error")]
    assert TurnContent.objects.count() == 3


def test_of_two_clocks_that_differ_a_little_the_earlier_counts(monkeypatch) -> None:
    stored(expired=timedelta(days=40))
    TurnContent.objects.update(expires_at=datetime(2031, 5, 5, 23, 59, tzinfo=UTC))
    midnight = datetime(2031, 5, 6, tzinfo=UTC)
    for here, there, turns in ((3, -1, 0), (-1, 3, 0), (3, 3, 1)):
        monkeypatch.setattr(timezone, "now", lambda here=here: midnight + timedelta(minutes=here))
        monkeypatch.setattr(retention, "database_now", lambda there=there: midnight + timedelta(minutes=there))
        assert purge_run(keys=False).turns == turns


# The migration


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, "turn_content"))


def test_the_migration_keeps_all_rows_there_and_back() -> None:
    session_id = session_begun()
    rows = [stored(session_id=session_id, seq=1), stored(expired=TWO_DAYS, session_id=session_id, seq=2)]
    held_in_time(session_id)
    purge_run()
    assert (TurnContent.objects.count(), HeldContent.objects.count()) == (1, 1)
    partitioned_indexes = indexes()
    call_command("migrate", "audit", "0002_log", verbosity=0)
    try:
        assert not partitioned()
        assert "turn_content_session_seq" in indexes()
        assert [content_read(row) for row in TurnContent.objects.select_related("key").order_by("seq")] == [
            content_read(row) for row in rows
        ]
    finally:
        call_command("migrate", "audit", verbosity=0)
    assert ("audit", "0003_retention") in MigrationRecorder(connection).applied_migrations()
    assert indexes() == partitioned_indexes
    assert partitioned()
    assert {partition_of(row) for row in rows} == {f"turn_content_p{row.expires_at:%Y%m%d}" for row in rows}
    assert partition_of(stored()) == f"turn_content_p{rows[0].expires_at:%Y%m%d}"
