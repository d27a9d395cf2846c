"""Encryption of what people asked and were told."""

import base64
import dataclasses
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit import content
from audit.content import ContentUnreadable, keyring_parse, seal, unseal
from audit.erasing import Erased, content_erase
from audit.models import ContentKey, TurnContent
from audit.selectors import content_of, content_read, contents_last
from audit.services import content_store
from onesource.env import EnvError

KEYS = {name: base64.b64encode(bytes([number]) * 32).decode() for number, name in enumerate(("old", "new", "other"))}
OLD, NEW = f"old:{KEYS['old']}", f"new:{KEYS['new']}"
PAYLOAD = {"question": "How wide is a ramp? \N{BUILDING CONSTRUCTION}", "answer_text": "1000 mm", "salt": "00"}


def stored(**changes: Any) -> TurnContent:
    ids = {"turn_id": uuid.uuid4(), "session_id": uuid.uuid4(), "seq": 1, "subject_ref": "a" * 32}
    given = {**ids, "payload": PAYLOAD, "at": timezone.now(), "retention": timedelta(days=30), **changes}
    row = content_store(**given)
    return TurnContent.objects.select_related("key").get(pk=row.pk)


# Keys


def test_the_first_key_wraps_and_all_unwrap() -> None:
    ring = keyring_parse(f"{NEW}, {OLD}")
    assert ring.active == "new"
    assert set(ring.keys) == {"new", "old"}


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        ("", 1),
        (KEYS["old"], 1),
        ("old:", 1),
        (f":{KEYS['old']}", 1),
        ("old:planted", 1),
        ("old:cGxhbnRlZA==", 1),
        (f"{OLD}=", 1),
        (f"old:{KEYS['old'][:-4]}", 1),
        (f"old: {KEYS['old']} x", 1),
        (f"{'x' * 41}:{KEYS['old']}", 1),
        ("old:\N{LATIN SMALL LETTER E WITH ACUTE}", 1),
        (f"{OLD},", 2),
        (f"{OLD},,{NEW}", 2),
        (f"{OLD};{NEW}", 1),
        (f"{OLD},old:{KEYS['new']}", 2),
        (f"{NEW},old:planted", 2),
    ],
)
def test_a_keyring_that_does_not_parse_names_the_variable_and_the_entry(value: str, entry: int) -> None:
    with pytest.raises(EnvError, match=f"CONTENT_KEYS: entry {entry} ") as caught:
        keyring_parse(value)
    assert "planted" not in str(caught.value)
    assert not any(key in str(caught.value) for key in KEYS.values())


def test_keys_are_not_shown_by_accident() -> None:
    assert "\\x01" not in repr(keyring_parse(NEW))


@pytest.mark.parametrize(
    "value", ["", "planted", "cGxhbnRlZA==", KEYS["old"] + "=", f"{OLD}", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_a_signing_key_that_is_not_32_bytes_names_the_variable(settings: Any, value: str) -> None:
    settings.AUDIT_SIGNING_KEY = value
    with pytest.raises(EnvError, match="AUDIT_SIGNING_KEY") as caught:
        content.signing_key()
    assert "planted" not in str(caught.value)


def test_a_signing_key_is_32_bytes(settings: Any) -> None:
    settings.AUDIT_SIGNING_KEY = KEYS["new"]
    assert content.signing_key() == bytes([1]) * 32


def test_a_fresh_key_unwraps_under_its_context_alone(settings: Any) -> None:
    settings.CONTENT_KEYS = NEW
    key, wrapped_by, wrapped = content.key_make(b"key:a:2026-01-01")
    assert wrapped_by == "new"
    assert content.key_unwrap(wrapped, "new", b"key:a:2026-01-01") == key
    with pytest.raises(ContentUnreadable):
        content.key_unwrap(wrapped, "new", b"key:b:2026-01-01")


def test_no_two_keys_are_the_same() -> None:
    assert len({content.key_make(b"context")[0] for _ in range(20)}) == 20


def test_a_key_that_is_no_longer_there_is_named(settings: Any) -> None:
    settings.CONTENT_KEYS = OLD
    _, wrapped_by, wrapped = content.key_make(b"context")
    settings.CONTENT_KEYS = NEW
    with pytest.raises(ContentUnreadable, match="no key 'old'"):
        content.key_unwrap(wrapped, wrapped_by, b"context")


# Sealing


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_what_was_sealed_is_unsealed(plaintext: bytes, context: bytes) -> None:
    key = b"k" * 32
    assert unseal(seal(plaintext, key, context), key, context) == plaintext


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_bit_anywhere_fails(plaintext: bytes, data: Any) -> None:
    sealed = bytearray(seal(plaintext, b"k" * 32, b"context"))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ContentUnreadable):
        unseal(bytes(sealed), b"k" * 32, b"context")


@pytest.mark.parametrize("length", [0, 1, 7, 8, 11, 12, 13, 27])
def test_a_truncated_ciphertext_fails(length: int) -> None:
    with pytest.raises(ContentUnreadable):
        unseal(seal(b"plaintext", b"k" * 32, b"context")[:length], b"k" * 32, b"context")


@pytest.mark.parametrize(("key", "context"), [(b"j" * 32, b"context"), (b"k" * 32, b"another")])
def test_another_key_or_context_fails(key: bytes, context: bytes) -> None:
    with pytest.raises(ContentUnreadable):
        unseal(seal(b"plaintext", b"k" * 32, b"context"), key, context)


def test_the_same_text_is_sealed_differently_each_time() -> None:
    assert len({seal(b"plaintext", b"k" * 32, b"context") for _ in range(20)}) == 20


# Stored content


def test_what_was_stored_is_read(db: None) -> None:
    assert content_read(stored()) == PAYLOAD


def test_no_text_is_in_the_tables(db: None) -> None:
    row = stored()
    for column in (bytes(row.sealed), bytes(row.key.wrapped)):
        assert b"ramp" not in column
        assert b"1000 mm" not in column


def test_content_of_before_a_rotation_is_read_and_new_content_is_under_the_new_key(db: None, settings: Any) -> None:
    settings.CONTENT_KEYS = OLD
    before = stored()
    settings.CONTENT_KEYS = f"{NEW},{OLD}"
    after = stored(subject_ref="b" * 32)
    assert (before.key.wrapped_by, after.key.wrapped_by) == ("old", "new")
    assert content_read(before) == content_read(after) == PAYLOAD


def test_content_whose_key_was_taken_away_is_unreadable(db: None, settings: Any) -> None:
    settings.CONTENT_KEYS = OLD
    row = stored()
    settings.CONTENT_KEYS = NEW
    with pytest.raises(ContentUnreadable):
        content_read(row)


@pytest.mark.parametrize("moved", [{"turn_id": uuid.uuid4()}, {"session_id": uuid.uuid4()}, {"seq": 2}])
def test_content_that_was_moved_is_unreadable(db: None, moved: dict[str, Any]) -> None:
    row = stored()
    for name, value in moved.items():
        setattr(row, name, value)
    with pytest.raises(ContentUnreadable):
        content_read(row)


@pytest.mark.parametrize("moved", [{"subject_ref": "b" * 32}, {"day": datetime(2020, 1, 1, tzinfo=UTC).date()}])
def test_a_key_that_was_moved_is_unreadable(db: None, moved: dict[str, Any]) -> None:
    row = stored()
    for name, value in moved.items():
        setattr(row.key, name, value)
    with pytest.raises(ContentUnreadable):
        content_read(row)


def test_content_under_the_key_of_another_is_unreadable(db: None) -> None:
    one, other = stored(), stored(subject_ref="b" * 32)
    one.key = other.key
    with pytest.raises(ContentUnreadable):
        content_read(one)


def test_a_subject_has_one_key_a_day(db: None) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    rows = [stored(at=noon + timedelta(hours=hours)) for hours in (0, 11, 12)]
    assert rows[0].key_id == rows[1].key_id != rows[2].key_id
    assert str(rows[2].key) == f"{'a' * 32} 2026-03-02"


def test_the_day_is_that_of_utc(db: None) -> None:
    sydney = datetime.fromisoformat("2026-03-02T08:00:00+11:00")
    assert str(stored(at=sydney).key.day) == "2026-03-01"


def test_without_its_key_content_is_gone(db: None) -> None:
    row = stored()
    ContentKey.objects.all().delete()
    assert content_of(row.turn_id) is None


def test_content_is_found_by_its_turn_until_it_expires(db: None) -> None:
    kept = stored()
    expired = stored(at=timezone.now() - timedelta(days=30, seconds=1))
    assert content_of(kept.turn_id) == kept
    assert content_of(expired.turn_id) is None
    assert content_of(uuid.uuid4()) is None


def test_the_last_turns_of_a_session_come_oldest_first_without_the_expired(db: None) -> None:
    session = uuid.uuid4()
    long_ago = timezone.now() - timedelta(days=31)
    for seq in range(1, 7):
        stored(session_id=session, seq=seq, **({"at": long_ago} if seq < 3 else {}))
    stored(seq=7)
    assert [row.seq for row in contents_last(session, 3)] == [4, 5, 6]
    assert [row.seq for row in contents_last(session, 100)] == [3, 4, 5, 6]
    assert contents_last(uuid.uuid4(), 3) == []


@pytest.mark.parametrize("turns", [2, 4])
def test_the_last_turns_cost_one_query(db: None, django_assert_num_queries: Any, turns: int) -> None:
    session = uuid.uuid4()
    for seq in range(1, turns + 1):
        stored(session_id=session, seq=seq)
    # contents with their keys
    with django_assert_num_queries(1):
        assert [content_read(row) for row in contents_last(session, turns)] == [PAYLOAD] * turns


def test_erasing_a_session_leaves_the_others(db: None) -> None:
    session = uuid.uuid4()
    gone = [stored(session_id=session, seq=seq) for seq in (1, 2)]
    kept = stored()
    assert content_erase(session_id=session) == Erased(turns=2)
    assert [content_of(row.turn_id) for row in gone] == [None, None]
    assert content_of(kept.turn_id) == kept


def test_a_ring_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        keyring_parse(NEW).active = "other"  # type: ignore[misc]
