"""A conversation deleted while a hot store is away, or while a turn of it is being appended, leaves no copy behind."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from audit import content
from chat.models import Session
from chat.services import sessions_erase_hot
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import hot_stores
from chat.stores.redis import BREAKER
from tests.chat.asking import QUESTION, ask, converse, problem_of

pytestmark = pytest.mark.django_db(transaction=True)


def minute_pass() -> None:
    Session.objects.exclude(hot_erase_since=None).update(hot_erase_since=timezone.now() - timedelta(minutes=2))


def test_a_store_that_was_away_is_erased_when_it_is_back(owner, redis_server, redis_configured, settings):
    session_id = converse(owner, QUESTION, "And its width?")[0]["meta"]["session_id"]
    settings.REDIS_SOCKET_TIMEOUT_MS = settings.REDIS_CONNECT_TIMEOUT_MS = 100
    store = hot_stores()["redis"]
    redis_server.pause()
    try:
        with pytest.raises(StoreAway):
            # Opens the breaker: the server will not find the deletion among what waits for it.
            store.check()
        assert owner.client.delete(f"/chat/sessions/{session_id}").status_code == 204
        minute_pass()
        sessions_erase_hot()
    finally:
        redis_server.resume()
    BREAKER.reset()
    assert store.load(uuid.UUID(session_id), 10)
    sessions_erase_hot()
    assert store.load(uuid.UUID(session_id), 10) == []
    assert not Session.objects.exclude(hot_erase_since=None).exists()


def test_a_late_append_is_erased_as_well(owner, redis_configured):
    session_id = ask(owner)["meta"]["session_id"]
    assert owner.client.delete(f"/chat/sessions/{session_id}").status_code == 204
    store = hot_stores()["redis"]
    store.append(uuid.UUID(session_id), [Message(1, "user", "late")], keep=4, ttl_seconds=60)
    sessions_erase_hot()
    assert store.load(uuid.UUID(session_id), 4)
    minute_pass()
    sessions_erase_hot()
    assert store.load(uuid.UUID(session_id), 4) == []


def test_a_key_that_was_taken_away_is_503_and_410_and_no_fault(owner, settings):
    answer = owner.post_json("/chat", {"question": QUESTION}, Idempotency_Key="once").json()
    old = settings.CONTENT_KEYS
    settings.CONTENT_KEYS = f"other:{old.partition(':')[2][::-1].replace('=', '')[:43]}="
    assert content.keyring().keys.keys() == {"other"}
    problem_of(owner.post_json("/chat", {"question": QUESTION}), 503, "not_recorded")
    problem_of(owner.post_json("/chat", {"question": QUESTION}, Idempotency_Key="once"), 410, "content_gone")
    problem_of(owner.client.get(f"/chat/turns/{answer['meta']['turn_id']}/stream"), 410, "content_gone")
