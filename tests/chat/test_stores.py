"""One contract for every conversation store, and the history that is loaded through them."""

import base64
import json
import random
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db.models import F
from django.utils import timezone
from prometheus_client import REGISTRY
from redis import Redis

from audit.content import ContentUnreadable
from audit.models import TurnContent
from chat.models import Session, Turn
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import history_load, hot_stores, primary
from chat.stores.database import DatabaseStore
from chat.stores.redis import RedisStore
from chat.stores.sealing import message_open, message_seal
from flags import snapshot
from tests.chat.asking import ask, converse
from tests.chat.conftest import KINDS

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600
OTHER_KEY = "QUJD" * 10 + "QUI="


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


@pytest.fixture
def store(kind):
    return kind.store()


every_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)
hot_kinds = pytest.mark.parametrize("kind", [name for name in KINDS if name != "database"], indirect=True)


@pytest.fixture
def redis(redis_configured):
    with Redis(port=redis_configured.port) as client:
        yield client


def session_of(answers) -> uuid.UUID:
    return uuid.UUID(answers[0]["meta"]["session_id"])


def contexts() -> list[str]:
    return list(Turn.objects.order_by("created_at").values_list("context", flat=True))


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


# Turns out of order and at the same time.


def turn(number, text="?"):
    return [Message(2 * number - 1, "user", f"{text}{number}"), Message(2 * number, "assistant", f"{text}{number}")]


def seqs(store, session_id, limit=64, **upto):
    return [message.seq for message in store.load(session_id, limit, **upto)]


@hot_kinds
def test_turns_that_arrive_out_of_order_are_read_in_order(store):
    session_id = uuid.uuid4()
    for number in (3, 1, 4, 2):
        store.append(session_id, turn(number), keep=32, ttl_seconds=TTL)
    assert seqs(store, session_id) == list(range(1, 9))


@hot_kinds
def test_a_late_turn_does_not_push_out_a_newer_one(store):
    session_id = uuid.uuid4()
    for number in (3, 4, 1, 2):
        store.append(session_id, turn(number), keep=4, ttl_seconds=TTL)
    assert seqs(store, session_id) == [5, 6, 7, 8]


@hot_kinds
def test_a_turn_that_is_appended_twice_is_there_once_as_it_was_written_last(store):
    session_id = uuid.uuid4()
    for text in ("first", "second"):
        store.append(session_id, turn(1, text), keep=4, ttl_seconds=TTL)
    assert [message.text for message in store.load(session_id, 10)] == ["second1", "second1"]


@hot_kinds
def test_what_is_newer_than_asked_for_is_left_out(store):
    session_id = uuid.uuid4()
    for number in (1, 2, 3):
        store.append(session_id, turn(number), keep=32, ttl_seconds=TTL)
    assert seqs(store, session_id, 2, upto=4) == [3, 4]


@hot_kinds
def test_a_rebuild_does_not_overwrite_what_a_later_turn_has_appended(store):
    session_id = uuid.uuid4()
    store.append(session_id, turn(1, "stale"), keep=32, ttl_seconds=TTL)
    store.append(session_id, turn(3, "new"), keep=32, ttl_seconds=TTL)
    store.replace(session_id, [*turn(1), *turn(2)], upto=4, ttl_seconds=TTL)
    assert [message.text for message in store.load(session_id, 10)[::2]] == ["?1", "?2", "new3"]


@hot_kinds
def test_a_rebuilt_message_expires_when_the_record_of_it_does(store, clock):
    session_id = uuid.uuid4()
    soon = timezone.now().timestamp() + 100
    old = [Message(message.seq, message.role, message.text, soon) for message in turn(1)]
    store.replace(session_id, [*old, *turn(2)], upto=4, ttl_seconds=TTL)
    assert seqs(store, session_id) == [1, 2, 3, 4]
    clock.advance(200)
    assert seqs(store, session_id) == [3, 4]


def test_a_turn_of_another_tab_is_no_lost_context(owner, committed, redis_configured, flag):
    """It was recorded after this turn had read the session, and before it read the history."""
    session_id = session_of(committed(owner, "q1", "q2", "q3"))
    for primary_name in ("redis", "database"):
        flag("CONV_STORE_PRIMARY", primary_name)
        history = history_load(session_id, turn_count=2, expired=False, flags=snapshot.current())
        assert (history.outcome, [message.seq for message in history.messages]) == ("hit", [1, 2, 3, 4])


def appended(store, jobs, keep, threads=16):
    """Appends each (session, turn number) of `jobs`, from several threads in no order."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda job: store.append(job[0], turn(job[1]), keep=keep, ttl_seconds=TTL), jobs):
            pass


# FerretDB reads all that it holds for each query.
many_appends = pytest.mark.parametrize(
    ("kind", "count"), [("redis", 10_000), ("cluster", 2_000), ("sentinel", 2_000), ("mongo", 500)], indirect=["kind"]
)


@many_appends
def test_many_appends_to_one_session_at_once_keep_the_newest_in_order(store, count):
    session_id = uuid.uuid4()
    appended(store, [(session_id, number) for number in random.sample(range(1, count + 1), count)], keep=32)
    assert seqs(store, session_id, 1000) == list(range(2 * count - 31, 2 * count + 1))


@many_appends
def test_many_appends_to_many_sessions_at_once_are_all_there(store, count):
    sessions, turns = [uuid.uuid4() for _ in range(count // 10)], 10
    jobs = [(session_id, number) for session_id in sessions for number in range(1, turns + 1)]
    appended(store, random.sample(jobs, len(jobs)), keep=32)
    assert [seqs(store, session_id) for session_id in sessions] == [list(range(1, 2 * turns + 1))] * len(sessions)


# What is held shows no text.


def raw_values(kind, request):
    """All that the servers of this kind hold, as bytes."""
    held = []
    if kind.name in ("redis", "dual"):
        with request.getfixturevalue("redis_configured").client() as client:
            held += [b"".join(client.zrange(key, 0, -1)) + key for key in client.keys("onesource:conv:*")]
    if kind.name in ("cluster", "sentinel"):
        for server in request.getfixturevalue(f"redis_{kind.name}").servers:
            with server.client() as client:
                for key in client.keys("onesource:conv:*"):
                    # Asked by a connection that follows no redirection: each node has what is its own.
                    held.append(b"".join(client.zrange(key, 0, -1)) + key)
    if kind.name in ("mongo", "dual"):
        held += [repr(row).encode() for row in request.getfixturevalue("mongo_configured").messages()]
    return held


@hot_kinds
def test_a_dump_shows_neither_question_nor_answer(kind, owner, committed, request):
    question = "Is a planted-secret-4711 permitted?"
    answer = committed(owner, question)[0]["blocks"][0]["text"]
    held = raw_values(kind, request)
    assert held
    for text in (question, answer, "planted-secret-4711"):
        for form in (text.encode(), base64.b64encode(text.encode())[:-4], json.dumps(text).encode()):
            assert not any(form in value for value in held)


def test_a_message_moved_to_another_session_or_seq_is_not_read():
    mine, other = uuid.uuid4(), uuid.uuid4()
    sealed = message_seal(Message(1, "user", "moved"), other, timezone.now().timestamp() + TTL)
    assert message_open(sealed, other, 1).text == "moved"
    for session_id, seq in ((mine, 1), (other, 2)):
        with pytest.raises(ContentUnreadable):
            message_open(sealed, session_id, seq)
