"""The sweeper, sweep by sweep: whom it takes for dead, what it records, what it forgets."""

import json
import uuid
from datetime import timedelta

import pytest
from django.db.models import F
from django.db.models.functions import Now

from audit.models import Event
from audit.services import salt_make, subject_ref_of
from chat.guard.fallback import ENDED_TEXT
from chat.models import Stream, StreamEvent, Turn
from chat.stores.redis import BREAKER
from chat.streaming.buffer import KEPT_SECONDS, Emitted, buffer_append
from chat.streaming.channel import channel_close, channel_open
from chat.streaming.ending import question_seal, stream_abort
from chat.streaming.services import streams_sweep
from tests.chat.asking import QUESTION, content_held
from tests.chat.streaming import draft_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def begin(owner):
    """begin(blocks, silent=seconds) is a stream that has sent so many blocks."""

    def make(blocks: int = 2, *, silent: float = 60) -> Stream:
        turn_id = uuid.uuid4()
        stream = Stream.objects.create(
            turn_id=turn_id,
            session_id=uuid.uuid4(),
            subject_ref=subject_ref_of(owner.user),
            endpoint="chat",
            pipeline="unified",
            sealed=question_seal(turn_id, QUESTION, salt_make()),
        )
        for index, block in enumerate(draft_of(blocks)["blocks"]):
            buffer_append(turn_id, Emitted(index + 2, "block", {"index": index, "block": block}))
        age(stream, heartbeat_at=silent)
        return stream

    return make


def age(stream: Stream, **seconds: float) -> None:
    since = {name: F(name) - timedelta(seconds=value) for name, value in seconds.items()}
    Stream.objects.filter(pk=stream.pk).update(**since)


def status(stream: Stream) -> str:
    stream.refresh_from_db()
    return stream.status


def test_who_is_silent_in_two_sweeps_is_dead_and_recorded_with_what_was_sent(begin):
    stream = begin(3)
    silent = streams_sweep({})
    assert status(stream) == "running"
    streams_sweep(silent)
    assert (status(stream), stream.last_n) == ("aborted", 5)
    held = content_held(str(stream.pk))
    assert held["question"] == QUESTION
    assert held["answer"]["blocks"] == draft_of(3)["blocks"]
    assert "TRUNCATED" in held["answer"]["meta"]["repair_codes"]
    facts = json.loads(bytes(Event.objects.get(kind="turn.aborted").body))["facts"]
    assert (facts["ended"], Turn.objects.get().outcome) == ("orphaned", "aborted")
    streams_sweep(streams_sweep(silent))
    assert Turn.objects.count() == 1


def test_the_last_sign_of_life_is_known_again_as_the_database_wrote_it(begin):
    stream = begin()
    Stream.objects.update(heartbeat_at=Now())
    stream.refresh_from_db()
    assert stream_abort(stream, ended="orphaned", heartbeat=stream.heartbeat_at - timedelta(milliseconds=1)) is False
    assert status(stream) == "running"
    assert stream_abort(stream, ended="orphaned", heartbeat=stream.heartbeat_at) is True
    assert status(stream) == "aborted"


def test_who_gave_a_sign_of_life_between_two_sweeps_lives(begin):
    stream = begin()
    silent = streams_sweep({})
    age(stream, heartbeat_at=-30)
    # Long ago as well, but another one than before.
    silent = streams_sweep(silent)
    assert status(stream) == "running"
    age(stream, heartbeat_at=-25)
    assert streams_sweep(silent) == {}
    assert status(stream) == "running"


def test_who_is_not_silent_for_long_lives(begin):
    stream = begin(silent=10)
    assert streams_sweep(streams_sweep({})) == {}
    assert status(stream) == "running"


def test_a_stream_of_this_very_process_is_left_to_it(begin):
    stream = begin()
    channel_open(stream.pk)
    try:
        streams_sweep(streams_sweep({}))
        assert status(stream) == "running"
    finally:
        channel_close(stream.pk)


def test_nothing_sent_is_recorded_as_nothing(begin):
    stream = begin(0)
    streams_sweep(streams_sweep({}))
    answer = content_held(str(stream.pk))["answer"]
    assert (status(stream), stream.last_n) == ("aborted", 2)
    assert answer["meta"]["repair_codes"] == ["TRUNCATED"]
    assert answer["blocks"] == [{"type": "markdown", "text": ENDED_TEXT}]
    # From the record's own beginning, not from when it was found.
    assert Turn.objects.get().total_us >= 0


def test_an_error_that_was_sent_stays_the_last_event(begin):
    stream = begin(2)
    buffer_append(stream.pk, Emitted(4, "error", {"status": 503}))
    streams_sweep(streams_sweep({}))
    assert (status(stream), stream.last_n) == ("aborted", 4)
    assert content_held(str(stream.pk))["answer"]["blocks"] == draft_of(2)["blocks"]


def test_one_that_cannot_be_recorded_does_not_hold_up_the_others(begin):
    streams = [begin() for _ in range(3)]
    # What no producer writes.
    buffer_append(streams[1].pk, Emitted(9, "block", {}))
    age(streams[1], heartbeat_at=1000)
    streams_sweep(streams_sweep({}))
    assert [status(stream) for stream in streams] == ["aborted", "running", "aborted"]


def test_a_question_that_cannot_be_read_any_more_is_said_to_be_so(begin):
    stream = begin()
    Stream.objects.update(sealed=b"x" * 64)
    streams_sweep(streams_sweep({}))
    assert "cannot be read" in content_held(str(stream.pk))["question"]


def test_streams_are_forgotten_after_minutes_and_running_ones_never(begin):
    ended, lately, running = begin(), begin(), begin(silent=0)
    Stream.objects.filter(pk__in=[ended.pk, lately.pk]).update(status="completed")
    for stream in (ended, running):
        age(stream, started_at=660)
    StreamEvent.objects.filter(turn_id=ended.pk).update(created_at=F("created_at") - timedelta(seconds=660))
    streams_sweep({})
    assert set(Stream.objects.values_list("pk", flat=True)) == {lately.pk, running.pk}
    assert set(StreamEvent.objects.values_list("turn_id", flat=True)) == {lately.pk, running.pk}


def test_what_redis_holds_is_waited_for(begin, redis_server, settings, redis_configured):
    stream = begin(3)
    settings.REDIS_SOCKET_TIMEOUT_MS = settings.REDIS_CONNECT_TIMEOUT_MS = 100
    redis_server.pause()
    try:
        silent = streams_sweep(streams_sweep({}))
        assert status(stream) == "running"
    finally:
        redis_server.resume()
    BREAKER.reset()
    streams_sweep(silent)
    assert content_held(str(stream.pk))["answer"]["blocks"] == draft_of(3)["blocks"]


def test_what_redis_can_no_longer_hold_is_not_waited_for(begin, redis_server, settings, redis_configured):
    stream = begin(3)
    age(stream, started_at=KEPT_SECONDS + 1)
    settings.REDIS_SOCKET_TIMEOUT_MS = settings.REDIS_CONNECT_TIMEOUT_MS = 100
    redis_server.pause()
    try:
        streams_sweep(streams_sweep({}))
    finally:
        redis_server.resume()
    facts = json.loads(bytes(Event.objects.get(kind="turn.aborted").body))["facts"]
    assert (facts["ended"], facts["failure"]) == ("orphaned", "buffer_lost")
