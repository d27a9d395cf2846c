"""After a re-wrap the old key may leave CONTENT_KEYS, and nothing recorded is lost by that."""

import base64
import threading
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection

from audit import rotation
from audit.keys import _kept_keys
from audit.models import ContentKey, TurnContent
from audit.retention import purge_run
from audit.rotation import keys_rewrap
from audit.selectors import content_of, content_read
from chat.stores.conversation import hot_stores
from tests.audit.contents import facts_of, refused, stored
from tests.chat.asking import QUESTION, content_held, converse, session_of

pytestmark = pytest.mark.django_db(transaction=True)
OLD, NEW, OTHER = (f"{name}:{base64.b64encode(name.encode() * 16)[:43].decode()}=" for name in ("k1", "k2", "k3"))
BOTH = f"{NEW},{OLD}"


@pytest.fixture
def old_keys(settings) -> list[TurnContent]:
    """Contents under seven keys that the old one wraps."""
    settings.CONTENT_KEYS = OLD
    return [stored(subject_ref=f"{number:032x}") for number in range(7)]


def rewrap(**options):
    return keys_rewrap(actor_ref="f" * 32, source="tests", **options)


def test_all_is_under_the_newest_key_and_read_without_the_old_one(old_keys, settings) -> None:
    settings.CONTENT_KEYS = BOTH
    told = []
    rewrapped = rewrap(progress=lambda done, total: told.append((done, total)))
    assert (rewrapped.to, rewrapped.rows, rewrapped.left) == ("k2", 7, {})
    assert told == [(7, 7)]
    settings.CONTENT_KEYS = NEW
    for row in old_keys:
        assert content_read(content_of(row.turn_id))["answer_text"] == "1000 mm"
    assert [(facts["from"], facts["to"], facts["rows"]) for facts in facts_of("keys.rotated")] == [({"k1": 7}, "k2", 7)]


def test_again_there_is_nothing_to_do_or_to_record(old_keys, settings) -> None:
    settings.CONTENT_KEYS = BOTH
    rewrap()
    assert rewrap().rows == 0
    assert len(facts_of("keys.rotated")) == 1


def test_the_data_keys_themselves_do_not_change(owner, settings, redis_configured) -> None:
    """So the copies in the hot stores stay readable."""
    settings.CONTENT_KEYS = OLD
    answers = converse(owner, QUESTION, "And outside?")
    settings.CONTENT_KEYS = BOTH
    rewrap()
    settings.CONTENT_KEYS = NEW
    _kept_keys.clear()
    assert content_held(answers[0]["meta"]["turn_id"])["question"] == QUESTION
    assert len(hot_stores()["redis"].load(session_of(answers), 10)) == 4
    converse(owner, "And a ramp?", session_id=answers[0]["meta"]["session_id"])


@pytest.mark.parametrize("ring", [NEW, f"{NEW},{OTHER.replace('k3:', 'k1:')}"], ids=["taken away", "another"])
def test_what_no_listed_key_opens_is_left_and_counted(old_keys, settings, ring) -> None:
    settings.CONTENT_KEYS = ring
    rewrapped = rewrap()
    assert (rewrapped.rows, rewrapped.left) == (0, {"k1": 7})
    assert facts_of("keys.rotated") == []
    settings.CONTENT_KEYS = BOTH
    assert rewrap().left == {}


def test_killed_between_two_batches_it_goes_on_and_all_is_on_record(old_keys, settings, monkeypatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)
    settings.CONTENT_KEYS = BOTH
    killed = "NEW.kind = 'keys.rotated' AND NEW.stream_seq = 2"
    with refused("audit_event", killed), pytest.raises(DatabaseError):
        rewrap()
    assert ContentKey.objects.filter(wrapped_by="k2").count() == 3
    assert rewrap().rows == 4
    assert [facts["rows"] for facts in facts_of("keys.rotated")] == [3, 3, 1]


def test_a_row_that_changed_since_it_was_read_is_not_written(old_keys, settings) -> None:
    settings.CONTENT_KEYS = BOTH
    rows = list(ContentKey.objects.order_by("pk"))
    rewrap()
    wrapped = [bytes(key.wrapped) for key in ContentKey.objects.order_by("pk")]
    assert rotation._batch_rewrap(rows, "", "tests") == 0
    assert [bytes(key.wrapped) for key in ContentKey.objects.order_by("pk")] == wrapped


def test_with_turns_and_a_purge_meanwhile_nothing_is_lost(old_keys, settings, monkeypatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 2)
    for number in range(10, 20):
        stored(expired=timedelta(days=2), subject_ref=f"{number:032x}")
    settings.CONTENT_KEYS = BOTH
    recorded: list[TurnContent] = []

    def record() -> None:
        try:
            recorded.extend(stored(subject_ref=f"{number % 9:032x}", seq=2) for number in range(20))
        finally:
            connection.close()

    def purge() -> None:
        try:
            purge_run()
        finally:
            connection.close()

    threads = [threading.Thread(target=target) for target in (record, purge)]
    for thread in threads:
        thread.start()
    rewrap()
    for thread in threads:
        thread.join()
    assert rewrap().left == {}
    settings.CONTENT_KEYS = NEW
    rows = [*old_keys, *recorded]
    assert len(rows) == 27
    assert all(content_read(content_of(row.turn_id)) for row in rows)
