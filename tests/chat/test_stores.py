"""One contract for every conversation store, and the history that is loaded through them."""

import uuid

import pytest
from django.utils import timezone
from prometheus_client import REGISTRY

from audit.models import TurnContent
from chat.models import Turn
from chat.stores.base import Message
from chat.stores.conversation import hot_stores
from tests.chat.asking import contexts, session_of
from tests.chat.conftest import every_kind, hot_kinds

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600
OTHER_KEY = "QUJD" * 10 + "QUI="


# Every store: what was asked and answered, in order.


@every_kind
def test_a_store_gives_the_last_messages_oldest_first(store, owner, committed):
    session_id = session_of(committed(owner, "q1", "q2", "q3"))
    found = store.load(session_id, 4)
    assert [(message.seq, message.role) for message in found] == [
        (3, "user"),
        (4, "assistant"),
        (5, "user"),
        (6, "assistant"),
    ]
    assert [message.text for message in found[::2]] == ["q2", "q3"]
    assert "I do not know" in found[1].text


@every_kind
@pytest.mark.parametrize("limit", [1, 3, 6, 100])
def test_a_store_gives_as_many_as_it_is_asked_for(store, owner, committed, limit):
    session_id = session_of(committed(owner, "q1", "q2", "q3"))
    assert [message.seq for message in store.load(session_id, limit)] == list(range(1, 7))[-limit:]


@every_kind
def test_a_store_gives_nothing_for_a_limit_of_none_and_for_an_unknown_session(store, owner, committed):
    session_id = session_of(committed(owner, "q1"))
    assert store.load(session_id, 0) == []
    assert store.load(uuid.uuid4(), 10) == []


@hot_kinds
@pytest.mark.parametrize("text", ["", "é🏗\u202e", "a\nb\tc", "x" * 100_000, '"\\', "\u0000"])
def test_a_store_keeps_a_text_as_it_is(store, text):
    session_id = uuid.uuid4()
    store.append(session_id, [Message(1, "user", text)], keep=2, ttl_seconds=TTL)
    assert store.load(session_id, 2) == [Message(1, "user", text)]


@every_kind
def test_a_store_keeps_sessions_apart(store, owner, committed):
    one, two = session_of(committed(owner, "q1")), session_of(committed(owner, "q2"))
    assert [store.load(session_id, 1)[0].seq for session_id in (one, two)] == [2, 2]
    assert [store.load(session_id, 2)[0].text for session_id in (one, two)] == ["q1", "q2"]


@every_kind
def test_a_store_forgets_a_deleted_session(store, owner, committed, django_capture_on_commit_callbacks):
    session_id = session_of(committed(owner, "q1"))
    with django_capture_on_commit_callbacks(execute=True):
        owner.client.delete(f"/chat/sessions/{session_id}")
    assert store.load(session_id, 10) == []


@every_kind
def test_a_store_that_works_passes_its_check(store):
    assert store.check() is None


@every_kind
def test_what_has_expired_is_not_read_again(kind, owner, model, committed, flag, clock):
    flag("CONV_TTL_SECONDS", 600)
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    clock.advance(500)
    committed(owner, "q2", session_id=session_id)
    clock.advance(200)
    committed(owner, "q3", session_id=session_id)
    asked = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "user"]
    assert asked == ["q2", "q3"]


@every_kind
def test_a_conversation_whose_whole_retention_is_over_has_expired(kind, owner, model, committed, flag, clock):
    flag("CONV_TTL_SECONDS", 600)
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    clock.advance(700)
    if kind.hot:
        # Its own clock does not move with ours.
        kind.wipe()
    answer = committed(owner, "q2", session_id=session_id)[0]
    assert answer["meta"]["turn"] == 2
    assert Turn.objects.get(seq=2).context == "expired"
    assert len(model.bodies[-1]["messages"]) == 2


@every_kind
def test_later_turns_hit(kind, owner, committed):
    committed(owner, "q1", "q2", "q3")
    assert contexts() == ["none", "hit", "hit"]


@every_kind
def test_a_hit_is_counted_from_the_second_turn_on(kind, owner, committed):
    def hits():
        return REGISTRY.get_sample_value("onesource_context_loads_total", {"outcome": "hit"}) or 0

    before = hits()
    committed(owner, "q1", "q2", "q3")
    assert hits() == before + 2


@every_kind
def test_the_history_is_the_same_from_every_store(kind, owner, model, committed):
    committed(owner, "q1", "q2", "q3")
    history = model.bodies[-1]["messages"][1:]
    assert [message["role"] for message in history] == ["user", "assistant"] * 2 + ["user"]
    assert [message["content"] for message in history[::2]] == ["q1", "q2", "q3"]


@every_kind
def test_a_record_that_is_gone_is_lost_and_the_turn_is_answered(kind, owner, committed):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    TurnContent.objects.all().delete()
    if kind.hot:
        kind.wipe()
    assert committed(owner, "q2", session_id=session_id)[0]["meta"]["turn"] == 2
    assert contexts()[-1] == "lost"


@every_kind
def test_a_record_that_cannot_be_decrypted_loses_the_context_and_not_the_turn(kind, owner, committed):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    TurnContent.objects.update(sealed=b"\x00" * 64)
    if kind.hot:
        kind.wipe()
    assert committed(owner, "q2", session_id=session_id)[0]["meta"]["turn"] == 2
    assert contexts()[-1] == "lost"


@every_kind
def test_one_unreadable_turn_does_not_cost_the_others(kind, owner, model, committed):
    session_id = committed(owner, "q1", "q2", "q3")[0]["meta"]["session_id"]
    TurnContent.objects.filter(seq=1).update(sealed=b"\x00" * 64)
    if kind.hot:
        kind.wipe()
    committed(owner, "q4", session_id=session_id)
    asked = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "user"]
    assert asked == ["q2", "q3", "q4"]


# MongoDB's own.


def test_mongo_is_given_its_indexes(store_of_mongo, mongo_configured):
    store_of_mongo.care()
    with mongo_configured.client() as client:
        indexes = client.get_default_database()["conversation_messages"].index_information()
    assert indexes["session_id_1_seq_1"]["unique"]
    assert any(index["key"] == [("expires_at", 1)] for index in indexes.values())


def test_mongo_deletes_the_expired_also_of_sessions_that_nobody_goes_on_with(store_of_mongo, mongo_configured, clock):
    """Once an hour, where the server has no TTL index; one that has deletes them within a minute, by its own clock."""
    store_of_mongo.append(uuid.uuid4(), [Message(1, "user", "old")], keep=2, ttl_seconds=60)
    store_of_mongo.append(uuid.uuid4(), [Message(1, "user", "new")], keep=2, ttl_seconds=TTL)
    store_of_mongo.care()
    with mongo_configured.client() as client:
        indexes = client.get_default_database()["conversation_messages"].index_information()
    if any("expireAfterSeconds" in index for index in indexes.values()):
        pytest.skip("this server has a TTL index")
    clock.advance(120)
    store_of_mongo._sweep_due = 0
    store_of_mongo.care()
    assert len(mongo_configured.messages()) == 1


@pytest.mark.parametrize("row", [{"seq": "1"}, {"seq": 1, "sealed": 7}, {"seq": 1, "sealed": "x"}, {"seq": 1}])
def test_mongo_reads_past_what_it_did_not_write(store_of_mongo, mongo_configured, row):
    session_id = uuid.uuid4()
    later = timezone.now() + timezone.timedelta(hours=1)
    with mongo_configured.client() as client:
        client.get_default_database()["conversation_messages"].insert_one(
            {"session_id": str(session_id), "expires_at": later, **row}
        )
    store_of_mongo.append(session_id, [Message(2, "assistant", "x")], keep=4, ttl_seconds=TTL)
    assert [message.seq for message in store_of_mongo.load(session_id, 4)] == [2]


@pytest.fixture
def store_of_mongo(mongo_configured):
    return hot_stores()["mongo"]
