import json
import uuid
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from django.db.models import F
from django.db.models.functions import Now

from audit.models import TurnContent
from audit.services import subject_ref_of
from chat.idempotency import (
    KEPT,
    Claim,
    _held,
    claim_release,
    claim_settle,
    claim_take,
    claims_beat,
    claims_forget,
    claims_purge,
    fingerprint,
)
from chat.models import IdempotencyKey, Stream, Turn
from chat.streaming import sweeper
from onesource.errors import Conflict
from tests.chat.asking import QUESTION, answer_of, ask, problem_of

pytestmark = pytest.mark.django_db
BUDGET = timedelta(seconds=20)


def post(member, question=QUESTION, *, key="key-1", path="/chat", **fields):
    return member.post_json(path, {"question": question, **fields}, Idempotency_Key=key)


def claim(member, key="key-1", fingerprint="f"):
    return claim_take(subject_ref=subject_ref_of(member.user), key=key, fingerprint=fingerprint, budget=BUDGET)


def age(**since):
    """Lets time pass for all keys."""
    IdempotencyKey.objects.update(claimed_at=F("claimed_at") - timedelta(**since))


@pytest.mark.parametrize("key", ["a", "k" * 255, "!~\"#$%&'()*+,-./:;<=>?@[]^_`{|}", str(uuid.UUID(int=7))])
def test_a_visible_ascii_key_of_up_to_255_is_accepted(owner, key):
    answer_of(post(owner, key=key))
    assert IdempotencyKey.objects.get().key == key


@pytest.mark.parametrize("key", ["", " ", "a b", "a\tb", "k" * 256, "caf\u00e9", "a\x7fb", "a\x00b", "\u200b", "a\nb"])
def test_any_other_key_is_400_and_asks_nothing(owner, key):
    problem_of(post(owner, key=key), 400, "bad_idempotency_key")
    assert (Turn.objects.count(), IdempotencyKey.objects.count()) == (0, 0)


def test_a_repeat_gets_the_same_answer_and_no_second_turn(owner):
    first, second = post(owner), post(owner)
    assert answer_of(first) == answer_of(second)
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert Turn.objects.count() == 1


def test_the_provider_is_asked_once_for_a_repeat(owner, model):
    assert answer_of(post(owner)) == answer_of(post(owner))
    assert len(model.requests) == 1


def test_without_a_key_each_request_is_a_turn(owner):
    assert ask(owner)["meta"]["turn_id"] != ask(owner)["meta"]["turn_id"]
    assert IdempotencyKey.objects.count() == 0


def test_the_same_body_written_otherwise_is_the_same_request(owner):
    session_id = str(uuid.uuid4())
    answer_of(post(owner, session_id=session_id))
    raw = json.dumps({"session_id": session_id, "question": QUESTION}, indent=2)
    response = owner.client.post("/chat", raw, content_type="application/json", headers={"Idempotency-Key": "key-1"})
    assert response.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    "other", [{"question": "Another?"}, {"session_id": str(uuid.UUID(int=1))}, {"path": "/chat/enhanced"}]
)
def test_another_request_under_the_key_is_409(owner, other):
    answer_of(post(owner))
    problem_of(post(owner, **other), 409, "idempotency_key_reused")
    assert Turn.objects.count() == 1


def test_a_key_is_the_callers_own(owner, stranger):
    mine, theirs = answer_of(post(owner)), answer_of(post(stranger, "Another?"))
    assert mine["meta"]["turn_id"] != theirs["meta"]["turn_id"]


def test_a_key_in_flight_is_409_that_says_when_to_come_back(owner):
    post(owner)
    IdempotencyKey.objects.update(turn_id=None)
    response = post(owner)
    problem_of(response, 409, "idempotency_key_in_flight")
    assert int(response.headers["Retry-After"]) >= 1
    assert Turn.objects.count() == 1


def test_an_orphaned_key_is_taken_over_after_the_budget(owner):
    post(owner)
    IdempotencyKey.objects.update(turn_id=None)
    age(seconds=51)
    answer = answer_of(post(owner))
    assert IdempotencyKey.objects.get().turn_id == uuid.UUID(answer["meta"]["turn_id"])


def test_a_key_is_not_taken_over_while_its_request_can_still_run(owner, flag):
    flag("LLM_TIMEOUT_MS", 60_000)
    post(owner)
    IdempotencyKey.objects.update(turn_id=None)
    age(seconds=60)
    problem_of(post(owner), 409, "idempotency_key_in_flight")


def silent(seconds: float) -> None:
    """As another process sees a claim whose holder has given no sign of life for so long."""
    _held.clear()
    IdempotencyKey.objects.update(seen_at=Now() - timedelta(seconds=seconds))


def test_a_key_whose_worker_is_silent_is_taken_over_soon(owner):
    slow = claim(owner)
    silent(21)
    quick = claim(owner)
    with pytest.raises(Conflict):
        claim_settle(slow, uuid.uuid4())
    claim_settle(quick, uuid.UUID(int=5))
    assert IdempotencyKey.objects.get().turn_id == uuid.UUID(int=5)


def test_a_key_whose_worker_gives_signs_of_life_is_kept(owner):
    claim(owner)
    silent(10)
    with pytest.raises(Conflict):
        claim(owner)
    _held.add(IdempotencyKey.objects.get().pk)
    IdempotencyKey.objects.update(seen_at=Now() - timedelta(seconds=60))
    claims_beat()
    _held.clear()
    with pytest.raises(Conflict):
        claim(owner)


def test_a_request_that_was_taken_over_cannot_record_its_turn(owner):
    slow = claim(owner)
    age(seconds=51)
    slow = Claim(slow.pk, IdempotencyKey.objects.get().claimed_at)
    quick = claim(owner)
    with pytest.raises(Conflict):
        claim_settle(slow, uuid.uuid4())
    claim_release(slow)
    claim_settle(quick, uuid.UUID(int=5))
    assert IdempotencyKey.objects.get().turn_id == uuid.UUID(int=5)


def test_two_that_take_over_at_once_are_one_and_a_conflict(owner, monkeypatch):
    claim(owner)
    age(seconds=51)
    take = IdempotencyKey.objects.get_or_create

    def raced(**given):
        found = take(**given)
        age(seconds=-60)
        return found

    monkeypatch.setattr(type(IdempotencyKey.objects), "get_or_create", lambda _self, **given: raced(**given))
    with pytest.raises(Conflict):
        claim(owner)


def test_after_24_hours_a_key_is_new(owner):
    first = answer_of(post(owner))
    age(hours=24, seconds=1)
    second = post(owner, "Another?")
    assert answer_of(second)["meta"]["turn_id"] != first["meta"]["turn_id"]
    assert "Idempotent-Replayed" not in second.headers


def test_within_24_hours_a_key_is_kept(owner):
    first = answer_of(post(owner))
    age(hours=23, minutes=59)
    assert answer_of(post(owner)) == first


def test_a_key_is_free_again_after_a_failed_request(owner, stranger):
    theirs = ask(stranger)["meta"]["session_id"]
    problem_of(post(owner, session_id=theirs), 404)
    assert IdempotencyKey.objects.count() == 0
    assert answer_of(post(owner))["meta"]["turn"] == 1


@pytest.mark.parametrize("body", [{"question": ""}, {"question": "?", "x": 1}])
def test_a_bad_request_does_not_take_its_key(owner, body):
    problem_of(owner.post_json("/chat", body, Idempotency_Key="key-1"), 400)
    assert answer_of(post(owner))["meta"]["turn"] == 1


def test_a_rate_limited_request_does_not_take_its_key(owner, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    ask(owner)
    problem_of(post(owner), 429)
    assert IdempotencyKey.objects.count() == 0


def test_a_repeat_after_the_content_has_expired_is_410(owner):
    post(owner)
    TurnContent.objects.update(expires_at=F("created_at"))
    problem_of(post(owner), 410, "content_gone")
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_with_its_session_a_key_goes_and_no_other(owner, stranger, path):
    """A caller may have made it from the question; a repeat is a new request."""
    first = answer_of(post(owner, path=path))
    answer_of(post(owner, "Another?", key="key-2"))
    answer_of(post(stranger))
    owner.client.delete(f"/chat/sessions/{first['meta']['session_id']}")
    assert sorted(IdempotencyKey.objects.values_list("key", flat=True)) == ["key-1", "key-2"]
    assert not IdempotencyKey.objects.filter(subject_ref=subject_ref_of(owner.user), key="key-1").exists()
    assert answer_of(post(owner, path=path))["meta"]["session_id"] != first["meta"]["session_id"]


def test_with_its_session_the_key_of_a_stream_goes(owner):
    session_id, turn_id = uuid.uuid4(), uuid.uuid4()
    ref = subject_ref_of(owner.user)
    Stream.objects.create(turn_id=turn_id, session_id=session_id, subject_ref=ref, sealed=b"")
    claim_settle(claim(owner), turn_id)
    claims_forget(subject_ref=ref, session_id=session_id)
    assert not IdempotencyKey.objects.exists()


def test_no_text_stands_in_a_key_row_nor_what_it_could_be_guessed_by(owner, stranger, settings):
    post(owner, "planted-in-the-question")
    post(owner, "planted-in-the-question", key="key-2")
    post(stranger, "planted-in-the-question")
    assert "planted" not in str(list(IdempotencyKey.objects.values()))
    kept = set(IdempotencyKey.objects.values_list("fingerprint", flat=True))
    assert len(kept) == 3
    assert fingerprint("/chat", {"question": "planted-in-the-question"}) not in kept
    settings.SECRET_KEY = "another"
    problem_of(post(owner, "planted-in-the-question"), 409, "idempotency_key_reused")


def test_a_row_of_an_earlier_release_still_answers_its_repeat(owner):
    first = answer_of(post(owner))
    IdempotencyKey.objects.update(fingerprint=fingerprint("/chat", {"question": QUESTION}))
    assert answer_of(post(owner)) == first
    problem_of(post(owner, "Another?"), 409, "idempotency_key_reused")


@pytest.mark.parametrize("batch", [1, 2, 500])
def test_a_claim_that_counts_no_longer_is_purged_and_no_other(owner, monkeypatch, batch):
    monkeypatch.setattr("chat.idempotency.PURGE_BATCH", batch)
    for number in range(4):
        claim(owner, f"old-{number}")
    age(seconds=KEPT.total_seconds() + 1)
    claim(owner, "young")
    IdempotencyKey.objects.filter(key="young").update(claimed_at=F("claimed_at") - KEPT + timedelta(minutes=1))
    assert claims_purge() == 4
    assert [row.key for row in IdempotencyKey.objects.all()] == ["young"]
    assert claims_purge() == 0


class Over(BaseException):
    pass


def test_the_sweeper_purges_every_ten_minutes(monkeypatch):
    clock, purged = [0.0], []

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] > 3600:
            raise Over

    monkeypatch.setattr(sweeper, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: clock[0]))
    monkeypatch.setattr(sweeper, "connection", Mock())
    monkeypatch.setattr(sweeper, "streams_sweep", lambda silent: silent)
    monkeypatch.setattr(sweeper, "uses_flush", lambda: None)
    monkeypatch.setattr(sweeper, "claims_purge", lambda: purged.append(clock[0]))
    with pytest.raises(Over):
        sweeper._sweep_forever()
    assert purged[0] <= 610
    assert 5 <= len(purged) <= 6
    assert all(later - earlier >= 600 for earlier, later in pairwise(purged))
