"""What has expired goes, with its keys, in steps that are each on record; the evidence stays as it is."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from audit import erasing, retention
from audit.models import ContentKey, Event, TurnContent
from audit.retention import PURGED, purge_run
from audit.selectors import content_for_review, content_gone, content_of, content_read, contents_overdue
from chat.models import Turn
from tests.audit.contents import RETENTION, facts_of, refused, sqlite_bytes, stored, trail
from tests.chat.asking import QUESTION, converse

pytestmark = pytest.mark.django_db(transaction=True)
LONG_AGO = timedelta(days=2)
PURGE_EVENT = "NEW.kind = 'content.purged'"


def test_what_has_expired_goes_with_its_keys_and_an_event() -> None:
    for seq in (1, 2):
        stored(expired=LONG_AGO, seq=seq)
    kept = stored()
    before = PURGED._value.get()
    purged = purge_run()
    assert (purged.turns, purged.held, purged.keys, purged.finished) == (2, 0, 1, True)
    assert TurnContent.objects.get() == kept
    assert ContentKey.objects.get() == kept.key
    (facts,) = facts_of("content.purged")
    assert (facts["turns"], facts["held"], facts["how"]) == (2, 0, "batch")
    assert PURGED._value.get() == before + 2


def test_a_second_run_finds_nothing_and_records_nothing() -> None:
    stored(expired=LONG_AGO)
    purge_run()
    again = purge_run()
    assert (again.turns, again.keys, again.finished) == (0, 0, True)
    assert len(facts_of("content.purged")) == 1


def test_what_has_not_expired_stays() -> None:
    row = stored()
    TurnContent.objects.update(expires_at=timezone.now() + timedelta(seconds=5))
    assert purge_run().turns == 0
    assert content_of(row.turn_id) is not None


def test_the_evidence_is_untouched(owner) -> None:
    converse(owner, QUESTION, "And outside?")
    evidence, turns = trail(), list(Turn.objects.order_by("seq").values())
    TurnContent.objects.update(expires_at=timezone.now() - LONG_AGO)
    assert purge_run().turns == 2
    assert trail()[: len(evidence)] == evidence
    assert list(Turn.objects.order_by("seq").values()) == turns


def test_a_backlog_goes_in_batches_each_with_its_event(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 3)
    for seq in range(1, 8):
        stored(expired=LONG_AGO, seq=seq)
    told = []
    assert purge_run(progress=lambda done, total: told.append((done, total))).turns == 7
    assert [facts["turns"] for facts in facts_of("content.purged")] == [3, 3, 1]
    assert told == [(3, None), (6, None), (7, None)]


def test_it_stops_between_two_batches_and_goes_on_later(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 3)
    for seq in range(1, 8):
        stored(expired=LONG_AGO, seq=seq)
    purged = purge_run(stop=lambda: TurnContent.objects.count() < 7)
    assert (purged.turns, purged.finished) == (3, False)
    assert purge_run().turns == 4


def test_without_its_event_nothing_is_deleted(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 2)
    for seq in range(1, 6):
        stored(expired=LONG_AGO, seq=seq)
    with refused("audit_event", PURGE_EVENT), pytest.raises(DatabaseError):
        purge_run()
    assert TurnContent.objects.count() == 5
    assert purge_run().turns == 5
    assert sum(facts["turns"] for facts in facts_of("content.purged")) == 5


def test_two_runs_at_once_delete_and_record_each_turn_once(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 5)
    for seq in range(1, 41):
        stored(expired=LONG_AGO, seq=seq)
    purged = []

    def run() -> None:
        try:
            purged.append(purge_run().turns)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(purged) == 40
    assert sum(facts["turns"] for facts in facts_of("content.purged")) == 40


def test_turns_recorded_meanwhile_keep_their_content_and_their_key(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 2)
    for seq in range(1, 31):
        stored(expired=LONG_AGO, seq=seq)
    recorded: list[TurnContent] = []

    def record() -> None:
        try:
            recorded.extend(stored(subject_ref=f"{number:032x}") for number in range(20))
        finally:
            connection.close()

    thread = threading.Thread(target=record)
    thread.start()
    turns = 0
    while thread.is_alive():
        turns += purge_run().turns
    thread.join()
    turns += purge_run().turns
    assert turns == 30
    assert len(recorded) == 20
    assert all(content_read(content_of(row.turn_id))["answer_text"] == "1000 mm" for row in recorded)


# Keys


def test_todays_key_stays_though_nothing_is_under_it_for_a_turn_may_be_about_to_use_it(owner) -> None:
    (answer,) = converse(owner, QUESTION)
    owner.client.delete(f"/chat/sessions/{answer['meta']['session_id']}")
    assert (TurnContent.objects.count(), ContentKey.objects.count()) == (0, 1)
    assert purge_run().keys == 0
    ContentKey.objects.update(day=(timezone.now() - timedelta(days=1, hours=2)).astimezone(UTC).date())
    assert purge_run().keys == 1


def test_a_key_with_content_under_it_stays_however_old_it_is() -> None:
    row = stored()
    ContentKey.objects.update(day=datetime(2020, 1, 1, tzinfo=UTC).date())
    assert purge_run().keys == 0
    assert TurnContent.objects.get() == row


def test_all_keys_are_looked_at_however_many_they_are(monkeypatch) -> None:
    monkeypatch.setattr(retention, "DELETE_LIMIT", 3)
    kept = stored()
    for number in range(10):
        stored(expired=LONG_AGO, subject_ref=f"{number:032x}")
    assert purge_run().keys == 10
    assert ContentKey.objects.get() == kept.key


def test_without_a_deletion_keys_are_looked_at_only_when_asked() -> None:
    stored(expired=LONG_AGO)
    TurnContent.objects.all().delete()
    assert purge_run(keys=False).keys == 0
    assert purge_run().keys == 1


def test_a_key_that_came_into_use_again_is_not_taken_with_its_content() -> None:
    """Deletion by Django would have taken the content along."""
    row = stored(expired=LONG_AGO)
    assert erasing.keys_purge([row.key_id]) == 0
    assert TurnContent.objects.get() == row


# What a reviewer is told


def test_a_reviewer_reads_what_is_retained_and_not_what_has_expired() -> None:
    kept, expired = stored(), stored(expired=LONG_AGO)
    assert content_for_review(kept.turn_id) == kept
    assert content_for_review(expired.turn_id) is None
    assert content_for_review(uuid.uuid4()) is None


def test_when_content_was_purged_is_told(owner) -> None:
    (answer,) = converse(owner, QUESTION)
    TurnContent.objects.update(expires_at=timezone.now() - LONG_AGO)
    event = Event.objects.get(kind="turn.completed")
    known = {"session_id": answer["meta"]["session_id"], "subject_ref": event.actor_ref}
    assert content_gone(**known, expires_at=timezone.now() - LONG_AGO) is None
    purge_run()
    gone = content_gone(**known, expires_at=timezone.now() - LONG_AGO)
    assert gone is not None
    assert (gone.why, gone.at) == ("purged", Event.objects.get(kind="content.purged").at)
    assert content_gone(**known, expires_at=timezone.now() + RETENTION) is None


def test_when_content_is_to_go_is_on_record(owner) -> None:
    converse(owner, QUESTION)
    (facts,) = facts_of("turn.completed")
    assert datetime.fromisoformat(facts["expires_at"]) == TurnContent.objects.get().expires_at


def test_when_its_owner_deleted_it_is_told(owner) -> None:
    (answer,) = converse(owner, QUESTION)
    session_id = answer["meta"]["session_id"]
    owner.client.delete(f"/chat/sessions/{session_id}")
    gone = content_gone(session_id=session_id, subject_ref="", expires_at=timezone.now() + RETENTION)
    assert gone is not None
    assert gone.why == "deleted"


def test_what_the_purge_left_is_counted() -> None:
    stored()
    stored(expired=LONG_AGO)
    assert contents_overdue() == 1
    purge_run()
    assert contents_overdue() == 0


# The files


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_nothing_of_it_is_left_in_the_files_of_sqlite() -> None:
    rows = [stored(expired=LONG_AGO, seq=n % 50, subject_ref=f"{n // 10:032x}") for n in range(400)]
    kept = [stored(subject_ref=f"{n:032x}") for n in range(20)]
    sought = [bytes(row.sealed)[:40] for row in rows] + list({bytes(row.key.wrapped) for row in rows})
    held = sqlite_bytes()
    assert all(text in held for text in sought)
    assert purge_run().finished
    held = sqlite_bytes()
    assert [text for text in sought if text in held] == []
    assert all(bytes(row.sealed) in held for row in kept)


@pytest.mark.skipif("connection.vendor != 'sqlite'")
def test_what_is_deleted_is_overwritten_also_where_sqlite_was_not_built_to() -> None:
    """Some distributions build it so, which would hide that nobody asked for it."""
    assert "secure_delete=ON" in connection.settings_dict["OPTIONS"]["init_command"]
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA secure_delete")
        assert cursor.fetchone() == (1,)
