"""A hot store is a cache: whatever it says wrong, the record says right. And what Redis in particular holds."""

import uuid

import pytest
from django.db.models import F
from redis import Redis

from audit.models import TurnContent
from chat.models import Session
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import hot_stores, primary
from chat.stores.database import DatabaseStore
from chat.stores.redis import RedisStore
from flags import snapshot
from tests.chat.asking import ask, contexts, converse, session_of
from tests.chat.conftest import every_kind, hot_kinds

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600
OTHER_KEY = "QUJD" * 10 + "QUI="


@pytest.fixture
def redis(redis_configured):
    with Redis(port=redis_configured.port) as client:
        yield client


def swap(redis, key, member):
    """The last message is `member` now."""
    redis.zremrangebyrank(key, -1, -1)
    redis.zadd(key, {member: 4})


# A hot store is a cache: whatever it says wrong, the record says right.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis, key: redis.flushall(),
        lambda redis, key: redis.zremrangebyrank(key, -1, -1),
        lambda redis, key: redis.zremrangebyrank(key, -2, -1),
        lambda redis, key: redis.zremrangebyrank(key, 0, 0),
        lambda redis, key: swap(redis, key, b"garbage"),
        lambda redis, key: swap(redis, key, b"\xff\xfe"),
        lambda redis, key: swap(redis, key, b""),
        lambda redis, key: redis.zadd(key, {redis.zrange(key, 0, 0)[0]: 4}),
        lambda redis, key: redis.zadd(key, {b"x": 3.5}),
        lambda redis, key: redis.set(key, b"no set"),
        lambda redis, key: redis.zincrby(key, 1, redis.zrange(key, 0, 0)[0]),
    ],
    ids=[
        "flushed",
        "half a turn",
        "behind",
        "start gone",
        "garbage",
        "bytes",
        "empty",
        "moved",
        "odd",
        "type",
        "doubled",
    ],
)
def test_a_spoiled_session_is_rebuilt_from_the_record_and_written_back(owner, model, committed, redis, spoil):
    session_id = committed(owner, "q1", "q2")[0]["meta"]["session_id"]
    spoil(redis, f"onesource:conv:{{{session_id}}}")
    committed(owner, "q3", "q4", session_id=session_id)
    assert contexts() == ["none", "hit", "rebuilt", "hit"]
    assert [message["content"] for message in model.bodies[2]["messages"][1::2]] == ["q1", "q2", "q3"]


def test_elements_of_another_session_are_not_read(owner, committed, redis):
    mine = committed(owner, "q1")[0]["meta"]["session_id"]
    other = committed(owner, "qx")[0]["meta"]["session_id"]
    redis.copy(f"onesource:conv:{{{other}}}", f"onesource:conv:{{{mine}}}", replace=True)
    committed(owner, "q2", session_id=mine)
    assert contexts()[-1] == "rebuilt"


@every_kind
def test_after_a_rotation_what_an_older_key_sealed_is_read_as_before(kind, owner, committed, settings):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    settings.CONTENT_KEYS = f"new:{OTHER_KEY},{settings.CONTENT_KEYS}"
    committed(owner, "q2", "q3", session_id=session_id)
    assert contexts() == ["none", "hit", "hit"]


@hot_kinds
def test_what_a_key_sealed_that_is_listed_no_more_is_not_read(store, settings):
    session_id = uuid.uuid4()
    store.append(session_id, [Message(1, "user", "old")], keep=4, ttl_seconds=TTL)
    settings.CONTENT_KEYS = f"new:{OTHER_KEY}"
    store.append(session_id, [Message(2, "assistant", "new")], keep=4, ttl_seconds=TTL)
    assert store.load(session_id, 4) == [Message(2, "assistant", "new")]


def test_a_turn_that_was_not_appended_is_rebuilt(owner, committed, redis):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    ask(owner, "q2", session_id=session_id)
    committed(owner, "q3", session_id=session_id)
    assert contexts()[-1] == "rebuilt"


def test_redis_keeps_no_more_than_the_limit_and_no_longer_than_the_retention(owner, committed, redis, flag):
    flag("CONV_MAX_TURNS", 2)
    flag("CONV_TTL_SECONDS", 900)
    session_id = session_of(committed(owner, *["?"] * 5))
    key = f"onesource:conv:{{{session_id}}}"
    assert redis.zcard(key) == 4
    assert 890 <= redis.ttl(key) <= 900


def test_a_raised_limit_is_served_from_the_record(owner, model, committed, redis, flag):
    flag("CONV_MAX_TURNS", 1)
    session_id = committed(owner, "q1", "q2", "q3")[0]["meta"]["session_id"]
    flag("CONV_MAX_TURNS", 3)
    committed(owner, "q4", session_id=session_id)
    assert [message["content"] for message in model.bodies[-1]["messages"][1::2]] == ["q1", "q2", "q3", "q4"]


def test_a_limit_of_no_turns_keeps_nothing(owner, committed, redis, flag):
    flag("CONV_MAX_TURNS", 0)
    committed(owner, "q1", "q2")
    assert redis.keys("onesource:conv:*") == []
    assert contexts() == ["none", "none"]


def test_a_turn_costs_redis_two_round_trips(owner, committed, redis):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    before = redis.info("commandstats")
    committed(owner, "q2", session_id=session_id)
    after = redis.info("commandstats")
    calls = {name: after[name]["calls"] - before.get(name, {}).get("calls", 0) for name in after}
    assert (calls["cmdstat_zrevrangebyscore"], calls["cmdstat_exec"], calls["cmdstat_zadd"]) == (1, 1, 1)


def test_replacing_is_all_that_is_held(redis):
    store, session_id = RedisStore(), uuid.uuid4()
    store.append(session_id, [Message(1, "user", "old")], keep=10, ttl_seconds=TTL)
    store.replace(session_id, [Message(3, "user", "new")], upto=4, ttl_seconds=TTL)
    assert store.load(session_id, 10) == [Message(3, "user", "new")]


def test_replacing_with_nothing_deletes(redis):
    store, session_id = RedisStore(), uuid.uuid4()
    store.append(session_id, [Message(1, "user", "old")], keep=10, ttl_seconds=TTL)
    store.replace(session_id, [], upto=2, ttl_seconds=TTL)
    assert redis.keys("*") == []


def test_an_error_of_redis_is_the_stores_own_error(redis):
    store, session_id = RedisStore(), uuid.uuid4()
    redis.set(f"onesource:conv:{{{session_id}}}", "no list")
    with pytest.raises(StoreAway):
        store.load(session_id, 2)


def test_the_store_named_by_the_flag_is_primary(redis_configured, flag):
    flag("CONV_STORE_PRIMARY", "redis")
    assert primary(snapshot.current()).name == "redis"
    flag("CONV_STORE_PRIMARY", "database")
    assert primary(snapshot.current()).name == "database"


def test_a_store_that_is_not_configured_is_the_database(flag):
    flag("CONV_STORE_PRIMARY", "redis")
    assert hot_stores() == {}
    assert primary(snapshot.current()).name == "database"


def test_dual_write_keeps_redis_warm_while_the_database_is_read(owner, committed, redis, flag):
    flag("CONV_STORE_PRIMARY", "database")
    committed(owner, "q1")
    assert redis.keys("onesource:conv:*") == []
    flag("CONV_DUAL_WRITE", True)
    committed(owner, "q2")
    assert len(redis.keys("onesource:conv:*")) == 1


def test_switching_the_primary_loses_no_context(owner, model, committed, redis, flag):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    flag("CONV_STORE_PRIMARY", "database")
    committed(owner, "q2", session_id=session_id)
    flag("CONV_STORE_PRIMARY", "redis")
    committed(owner, "q3", session_id=session_id)
    assert [message["content"] for message in model.bodies[-1]["messages"][1::2]] == ["q1", "q2", "q3"]


def test_the_database_store_writes_nothing(owner, django_assert_num_queries):
    store, session_id = DatabaseStore(), uuid.uuid4()
    # None: recording the turn has written it already.
    with django_assert_num_queries(0):
        store.append(session_id, [Message(1, "user", "x")], keep=2, ttl_seconds=TTL)
        store.replace(session_id, [Message(1, "user", "x")], upto=2, ttl_seconds=TTL)
        store.delete(session_id)
    assert store.load(session_id, 2) == []


def test_the_database_store_reads_what_has_not_expired(owner):
    session_id = session_of(converse(owner, "q1", "q2"))
    TurnContent.objects.filter(seq=1).update(expires_at=F("created_at"))
    assert [message.seq for message in DatabaseStore().load(session_id, 10)] == [3, 4]
    assert Session.objects.get().turn_count == 2
