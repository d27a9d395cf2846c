"""Turns that reach a store late, twice or at the same time; and what a dump of it shows."""

import base64
import json
import random
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.utils import timezone

from audit.content import ContentUnreadable
from chat.stores.base import Message
from chat.stores.conversation import history_load
from chat.stores.sealing import message_open, message_seal
from flags import snapshot
from tests.chat.asking import session_of
from tests.chat.conftest import hot_kinds

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600
OTHER_KEY = "QUJD" * 10 + "QUI="


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


# `python -m tests.bench.appends` does 10,000 on each kind. FerretDB reads all that it holds for each query.
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
