"""One contract for every conversation store, and the history that is loaded through them."""

import uuid

import pytest
from django.db.models import F
from prometheus_client import REGISTRY
from redis import Redis

from audit.models import TurnContent
from chat.models import Session, Turn
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import hot_stores, primary
from chat.stores.database import DatabaseStore
from chat.stores.redis import RedisStore
from flags import snapshot
from tests.chat.asking import ask, converse

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Questions whose effects after the commit take place."""

    def run(member, *questions, **fields):
        answers = []
        for question in questions:
            with django_capture_on_commit_callbacks(execute=True):
                answers.append(ask(member, question, **fields))
            fields["session_id"] = answers[-1]["meta"]["session_id"]
        return answers

    return run


@pytest.fixture(params=["database", "redis"])
def store_name(request, flag):
    if request.param == "redis":
        request.getfixturevalue("redis_configured")
    flag("CONV_STORE_PRIMARY", request.param)
    return request.param


@pytest.fixture
def store(store_name):
    return DatabaseStore() if store_name == "database" else RedisStore()


@pytest.fixture
def redis(redis_configured):
    with Redis(port=redis_configured.port) as client:
        yield client


def session_of(answers) -> uuid.UUID:
    return uuid.UUID(answers[0]["meta"]["session_id"])


def contexts() -> list[str]:
    return list(Turn.objects.order_by("created_at").values_list("context", flat=True))


# Every store: what was asked and answered, in order.


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


@pytest.mark.parametrize("limit", [1, 3, 6, 100])
def test_a_store_gives_as_many_as_it_is_asked_for(store, owner, committed, limit):
    session_id = session_of(committed(owner, "q1", "q2", "q3"))
    assert [message.seq for message in store.load(session_id, limit)] == list(range(1, 7))[-limit:]


def test_a_store_gives_nothing_for_a_limit_of_none_and_for_an_unknown_session(store, owner, committed):
    session_id = session_of(committed(owner, "q1"))
    assert store.load(session_id, 0) == []
    assert store.load(uuid.uuid4(), 10) == []


@pytest.mark.parametrize("text", ["", "é🏗\u202e", "a\nb\tc", "x" * 100_000, '"\\', "\u0000"])
def test_redis_keeps_a_text_as_it_is(redis_configured, text):
    store, session_id = RedisStore(), uuid.uuid4()
    store.append(session_id, [Message(1, "user", text)], keep=2, ttl_seconds=TTL)
    assert store.load(session_id, 2) == [Message(1, "user", text)]


def test_a_store_keeps_sessions_apart(store, owner, committed):
    one, two = session_of(committed(owner, "q1")), session_of(committed(owner, "q2"))
    assert [store.load(session_id, 1)[0].seq for session_id in (one, two)] == [2, 2]
    assert [store.load(session_id, 2)[0].text for session_id in (one, two)] == ["q1", "q2"]


def test_a_store_forgets_a_deleted_session(store, owner, committed, django_capture_on_commit_callbacks):
    session_id = session_of(committed(owner, "q1"))
    with django_capture_on_commit_callbacks(execute=True):
        owner.client.delete(f"/chat/sessions/{session_id}")
    assert store.load(session_id, 10) == []


def test_a_store_that_works_passes_its_check(store):
    assert store.check() is None


def test_what_has_expired_is_not_read_again(store_name, owner, model, committed, flag, clock):
    flag("CONV_TTL_SECONDS", 600)
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    clock.advance(500)
    committed(owner, "q2", session_id=session_id)
    clock.advance(200)
    committed(owner, "q3", session_id=session_id)
    asked = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "user"]
    assert asked == ["q2", "q3"]


def test_a_conversation_whose_whole_retention_is_over_has_expired(
    store_name, owner, model, committed, flag, clock, request
):
    flag("CONV_TTL_SECONDS", 600)
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    clock.advance(700)
    if store_name == "redis":
        # Its own clock does not move with ours.
        request.getfixturevalue("redis").flushall()
    answer = committed(owner, "q2", session_id=session_id)[0]
    assert answer["meta"]["turn"] == 2
    assert Turn.objects.get(seq=2).context == "expired"
    assert len(model.bodies[-1]["messages"]) == 2


def test_later_turns_hit(store_name, owner, committed):
    committed(owner, "q1", "q2", "q3")
    assert contexts() == ["none", "hit", "hit"]


def test_a_hit_is_counted_from_the_second_turn_on(store_name, owner, committed):
    def hits():
        return REGISTRY.get_sample_value("onesource_context_loads_total", {"outcome": "hit"}) or 0

    before = hits()
    committed(owner, "q1", "q2", "q3")
    assert hits() == before + 2


def test_the_history_is_the_same_from_every_store(store_name, owner, model, committed):
    committed(owner, "q1", "q2", "q3")
    history = model.bodies[-1]["messages"][1:]
    assert [message["role"] for message in history] == ["user", "assistant"] * 2 + ["user"]
    assert [message["content"] for message in history[::2]] == ["q1", "q2", "q3"]


def test_a_record_that_is_gone_is_lost_and_the_turn_is_answered(store_name, owner, committed, request):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    TurnContent.objects.all().delete()
    if store_name == "redis":
        request.getfixturevalue("redis").flushall()
    assert committed(owner, "q2", session_id=session_id)[0]["meta"]["turn"] == 2
    assert contexts()[-1] == "lost"


def test_a_record_that_cannot_be_decrypted_loses_the_context_and_not_the_turn(store_name, owner, committed, request):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    TurnContent.objects.update(sealed=b"\x00" * 64)
    if store_name == "redis":
        request.getfixturevalue("redis").flushall()
    assert committed(owner, "q2", session_id=session_id)[0]["meta"]["turn"] == 2
    assert contexts()[-1] == "lost"


def test_one_unreadable_turn_does_not_cost_the_others(store_name, owner, model, committed, request):
    session_id = committed(owner, "q1", "q2", "q3")[0]["meta"]["session_id"]
    TurnContent.objects.filter(seq=1).update(sealed=b"\x00" * 64)
    if store_name == "redis":
        request.getfixturevalue("redis").flushall()
    committed(owner, "q4", session_id=session_id)
    asked = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "user"]
    assert asked == ["q2", "q3", "q4"]


# A hot store is a cache: whatever it says wrong, the record says right.


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis, key: redis.flushall(),
        lambda redis, key: redis.rpop(key),
        lambda redis, key: redis.rpop(key, 2),
        lambda redis, key: redis.lpop(key),
        lambda redis, key: redis.lset(key, -1, b"garbage"),
        lambda redis, key: redis.lset(key, 0, b"\xff\xfe"),
        lambda redis, key: redis.lset(key, 0, b""),
        lambda redis, key: redis.rpush(key, redis.lindex(key, 0)),
        lambda redis, key: redis.set(key, b"no list"),
        lambda redis, key: redis.lset(key, 0, redis.lindex(key, 1)),
    ],
    ids=["flushed", "half a turn", "behind", "start gone", "garbage", "bytes", "empty", "one more", "type", "doubled"],
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


def test_elements_under_another_key_are_rebuilt(owner, committed, redis, settings):
    session_id = committed(owner, "q1")[0]["meta"]["session_id"]
    settings.CONTENT_KEYS = "new:" + "QUJD" * 10 + "QUI=," + settings.CONTENT_KEYS
    committed(owner, "q2", session_id=session_id)
    assert contexts()[-1] == "rebuilt"


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
    assert redis.llen(key) == 4
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
    assert (calls["cmdstat_lrange"], calls["cmdstat_exec"], calls["cmdstat_rpush"]) == (1, 1, 1)


def test_replacing_is_all_that_is_held(redis):
    store, session_id = RedisStore(), uuid.uuid4()
    store.append(session_id, [Message(1, "user", "old")], keep=10, ttl_seconds=TTL)
    store.replace(session_id, [Message(3, "user", "new")], ttl_seconds=TTL)
    assert store.load(session_id, 10) == [Message(3, "user", "new")]


def test_replacing_with_nothing_deletes(redis):
    store, session_id = RedisStore(), uuid.uuid4()
    store.append(session_id, [Message(1, "user", "old")], keep=10, ttl_seconds=TTL)
    store.replace(session_id, [], ttl_seconds=TTL)
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
        store.replace(session_id, [Message(1, "user", "x")], ttl_seconds=TTL)
        store.delete(session_id)
    assert store.load(session_id, 2) == []


def test_the_database_store_reads_what_has_not_expired(owner):
    session_id = session_of(converse(owner, "q1", "q2"))
    TurnContent.objects.filter(seq=1).update(expires_at=F("created_at"))
    assert [message.seq for message in DatabaseStore().load(session_id, 10)] == [3, 4]
    assert Session.objects.get().turn_count == 2
