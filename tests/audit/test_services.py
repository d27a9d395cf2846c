"""Appending events: what they hold, how they are numbered, and that they live and die with their change."""

import hashlib
import hmac
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from audit import actions
from audit.canonical import NotCanonical, canonical_json
from audit.merkle import leaf_hash
from audit.models import Event, Stream, SubjectAlias
from audit.services import commitment_make, event_record, salt_make, subject_ref_of


def record(stream: str = "stream", **changes: Any) -> Event:
    given = {"kind": actions.LOGIN_FAILED, "actor_ref": "a" * 32, "facts": {"identifier_hash": "f" * 32}}
    return event_record(**{**given, "stream": stream, **changes})


def numbers(stream: str = "stream") -> list[int]:
    return list(Event.objects.filter(stream=stream).order_by("id").values_list("stream_seq", flat=True))


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """The results of `act(0) .. act(count - 1)`, run in threads that start together, each on its own connection."""
    together = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(number: int) -> None:
        try:
            together.wait(20)
            results[number] = act(number)
        except Exception as error:  # noqa: BLE001  (given to the test, which compares)
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


# What an event holds


def test_the_body_is_the_truth_and_the_columns_are_projections_of_it(db: None) -> None:
    at = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
    event = Event.objects.get(pk=record(at=at).pk)
    assert json.loads(bytes(event.body)) == {
        "v": 1,
        "uid": str(event.uid),
        "at": "2026-03-01T12:30:15.123456+00:00",
        "kind": event.kind,
        "stream": event.stream,
        "seq": event.stream_seq,
        "actor": event.actor_ref,
        "facts": {"identifier_hash": "f" * 32},
    }
    assert event.at == at
    assert str(event) == f"login.failed {event.uid}"


def test_the_body_is_canonical_and_the_leaf_is_its_hash(db: None) -> None:
    event = Event.objects.get(pk=record().pk)
    body = bytes(event.body)
    assert canonical_json(json.loads(body)) == body
    assert bytes(event.leaf) == leaf_hash(body)


def test_no_two_events_have_the_same_leaf(db: None) -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert len({record(at=at).leaf for _ in range(5)}) == 5


@pytest.mark.parametrize(
    "facts", [{"identifier_hash": 0.5}, {"identifier_hash": "x" * 60_000}, {"identifier_hash": "\ud800"}]
)
def test_a_fact_without_canonical_form_leaves_nothing(db: None, facts: dict[str, Any]) -> None:
    with pytest.raises(NotCanonical), transaction.atomic():
        record(facts=facts)
    assert numbers() == []
    assert not Stream.objects.filter(name="stream").exists()


# Numbers


def test_a_stream_is_numbered_from_one_without_gaps(db: None) -> None:
    assert [record().stream_seq for _ in range(4)] == [1, 2, 3, 4]
    assert str(Stream.objects.get(name="stream")) == "stream"


def test_streams_count_for_themselves(db: None) -> None:
    assert [record(stream).stream_seq for stream in ("a", "b", "a", "b", "a")] == [1, 1, 2, 2, 3]


def test_a_number_that_was_rolled_back_is_given_again(db: None) -> None:
    record()
    with transaction.atomic():
        record()
        transaction.set_rollback(True)
    record()
    assert numbers() == [1, 2]


def test_a_stream_with_a_counter_of_its_own_gives_the_number(db: None) -> None:
    assert record(stream_seq=42).stream_seq == 42
    assert not Stream.objects.filter(name="stream").exists()


def test_a_number_is_given_once(db: None) -> None:
    record(stream_seq=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        record(stream_seq=1)
    assert numbers() == [1]


def test_an_event_that_fails_takes_the_change_it_stands_for_with_it(db: None) -> None:
    def change() -> None:
        with transaction.atomic():
            User.objects.create_user("changed")
            record(facts={"identifier_hash": 0.5})

    with pytest.raises(NotCanonical):
        change()
    assert not User.objects.filter(username="changed").exists()


@pytest.mark.django_db(transaction=True)
def test_appends_at_once_leave_no_gap_and_no_double() -> None:
    results = at_once(8, lambda number: [record().stream_seq for _ in range(5)])
    assert sorted(seq for result in results for seq in result) == list(range(1, 41))
    assert sorted(numbers()) == list(range(1, 41))


@pytest.mark.django_db(transaction=True)
def test_appends_at_once_of_which_some_are_rolled_back_leave_no_gap() -> None:
    def append(number: int) -> None:
        with transaction.atomic():
            record()
            transaction.set_rollback(number % 2 == 1)

    assert at_once(8, append) == [None] * 8
    assert sorted(numbers()) == [1, 2, 3, 4]


# Pseudonyms


def test_a_pseudonym_is_made_once(django_user_model: Any, db: None) -> None:
    user = django_user_model.objects.create_user("somebody")
    assert subject_ref_of(user) == subject_ref_of(user) == str(SubjectAlias.objects.get(user=user))


def test_a_pseudonym_tells_nothing_of_the_account(django_user_model: Any, db: None) -> None:
    users = [django_user_model.objects.create_user(f"somebody{number}") for number in range(3)]
    refs = {subject_ref_of(user) for user in users}
    assert len(refs) == 3
    assert all(uuid.UUID(hex=ref).version == 4 for ref in refs)


def test_a_known_pseudonym_costs_one_query(django_user_model: Any, db: None, django_assert_num_queries: Any) -> None:
    user = django_user_model.objects.create_user("somebody")
    subject_ref_of(user)
    # the alias
    with django_assert_num_queries(1):
        subject_ref_of(user)


@pytest.mark.django_db(transaction=True)
def test_a_pseudonym_asked_for_at_once_is_one() -> None:
    user = User.objects.create_user("somebody")
    refs = at_once(8, lambda number: subject_ref_of(user))
    assert set(refs) == {SubjectAlias.objects.get(user=user).subject_ref}


def test_deleting_an_account_deletes_its_alias_and_no_event(django_user_model: Any, db: None) -> None:
    user = django_user_model.objects.create_user("somebody")
    event = record(actor_ref=subject_ref_of(user))
    user.delete()
    assert not SubjectAlias.objects.filter(subject_ref=event.actor_ref).exists()
    assert Event.objects.get(pk=event.pk).actor_ref == event.actor_ref


# Commitments


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_commitment_is_the_hmac_of_the_text_and_its_length(text: str) -> None:
    salt = salt_make()
    told = commitment_make(salt, text).facts()
    assert told == {"chars": len(text), "hmac": hmac.new(salt, text.encode(), hashlib.sha256).hexdigest()}


def test_the_same_text_is_committed_to_differently_under_each_salt() -> None:
    made = {commitment_make(salt_make(), "yes").hmac for _ in range(20)}
    assert len(made) == 20
    assert len(salt_make()) == 32


def test_a_known_commitment() -> None:
    # printf 'How wide is a ramp?' | openssl dgst -sha256 -mac HMAC -macopt hexkey:00..00 (32 bytes)
    assert commitment_make(bytes(32), "How wide is a ramp?").hmac == (
        "7b1a30c4ab38e09dbdf969c1fb6290f3d6415e88fc4557ea683a6302de468085"
    )
