"""A streamed answer on the real server: what is sent, in which order, when, and what is on record for it."""

import json
import re
import threading
import uuid

import pytest

from tests.chat.asking import QUESTION, answer_of
from tests.chat.streaming import (
    BLOCKS,
    blocks_of,
    draft_of,
    ended_well,
    events_of,
    model_env,
    paused,
    paused_stream,
    recorded_answer,
    resumed,
    turn_ended,
)
from tests.model_server import ModelServer
from tests.services.gunicorn import Gunicorn
from tests.services.sse import stream_post


@pytest.fixture
def server(gunicorn_server, model_server) -> Gunicorn:
    return gunicorn_server(model_env(model_server), workers=1)


def total(server: Gunicorn, name: str) -> float:
    text = server.get("/metrics", token="").body.decode()
    return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:{{[^}}]*}})? (\S+)$", text))


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_a_stream_keeps_the_contract_and_is_on_record(server, model_server, path):
    draft = draft_of()
    model_server.reply("slow", answer=draft, seconds=0.01)
    observed = total(server, "onesource_first_token_seconds_count")
    stream = stream_post(server, path, question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == draft["blocks"] == answer["blocks"]
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer
    kind, facts = turn_ended(server, stream)
    assert (kind, facts["outcome"], facts["ended"]) == ("turn.completed", "answered", "")
    times = answer["meta"]["timing_ms"]
    assert 0 < times["first_token"] < times["provider"] <= times["total"]
    assert (answer["meta"]["repair_codes"], answer["meta"]["degraded"]) == ([], False)
    assert total(server, "onesource_first_token_seconds_count") == observed + 1


def test_the_model_is_asked_once_for_a_stream_with_its_form_and_its_usage(server, model_server):
    model_server.reply(answer=draft_of())
    answer = ended_well(stream_post(server, question=QUESTION).collect())
    (asked,) = model_server.bodies
    assert (asked["stream"], asked["stream_options"]) == (True, {"include_usage": True})
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert answer["meta"]["tokens"] == {"prompt": 120, "completion": 60, "estimated": False}


def test_blocks_come_while_the_model_still_writes(server, model_server):
    stream = paused_stream(server, model_server, 3)
    assert [event.event for event in stream.events] == ["started", "block", "block", "block"]
    assert not model_server.released.is_set()
    model_server.released.set()
    assert len(blocks_of(stream.collect())) == BLOCKS


def test_turn_started_is_on_record_before_anything_of_the_answer(server, model_server):
    stream = paused_stream(server, model_server, 0)
    started = stream.events[0].data
    assert [kind for kind, _ in events_of(server, started["session_id"])] == ["turn.started"]
    model_server.released.set()
    ended_well(stream.collect())
    kinds = [kind for kind, _ in events_of(server, started["session_id"])]
    assert kinds == ["turn.started", "turn.completed"]


def test_what_is_said_before_the_blocks_is_not_sent_as_one(server, model_server):
    stream = paused_stream(server, model_server, 0)
    model_server.released.set()
    events = stream.collect()
    assert [event.event for event in events] == ["started", *["block"] * BLOCKS, "answer"]


def test_a_second_watcher_sees_the_same_stream(server, model_server):
    first = paused_stream(server, model_server, 3)
    first_events = list(first.events)
    # Its head comes although the model is silent, and before the first comment would.
    again = resumed(server, first, timeout=6)
    again.events = []
    more = resumed(server, first)
    model_server.released.set()
    whole = first.collect()
    assert [(e.id, e.event, e.data) for e in again.collect()] == [(e.id, e.event, e.data) for e in whole[4:]]
    assert more.collect()[: len(first_events)] == first_events
    ended_well(more.events)


def test_the_conversation_goes_on_after_a_streamed_turn(server, model_server):
    model_server.reply(answer=draft_of(2, "landing"))
    session_id = str(uuid.uuid4())
    first = ended_well(stream_post(server, question="Which landing?", session_id=session_id).collect())
    second = answer_of(server.post_json("/chat", {"question": "And the width?", "session_id": session_id}))
    third = ended_well(stream_post(server, question="And the depth?", session_id=session_id).collect())
    assert [answer["meta"]["turn"] for answer in (first, second, third)] == [1, 2, 3]
    messages = model_server.bodies[-1]["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"][-3:] == [
        "Which landing?",
        "And the width?",
        "And the depth?",
    ]
    assert "landing of part 0" in json.dumps(messages)
    asked = [turn["question"] for turn in server.get(f"/chat/sessions/{session_id}").json()["conversation"]]
    assert asked == ["Which landing?", "And the width?", "And the depth?"]


def test_a_long_pause_is_bridged_by_a_comment(server, model_server):
    stream = paused_stream(server, model_server, 2)
    threading.Timer(11, model_server.released.set).start()
    answer = ended_well(stream.collect())
    assert [comment for comment, _ in stream.comments] == ["ping"]
    assert len(answer["blocks"]) == BLOCKS


def test_the_extractive_provider_streams_too(gunicorn_server):
    server = gunicorn_server()
    stream = stream_post(server, "/chat/enhanced", question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == answer["blocks"]
    assert "865" in json.dumps(answer["blocks"])
    assert answer["citations"]
    assert answer["meta"]["provider"] == "extractive"
    assert recorded_answer(server, answer["meta"]["session_id"]) == answer


def test_the_legacy_pipeline_gives_the_answer_at_once(gunicorn_server, model_server):
    server = gunicorn_server(model_env(model_server, USE_UNIFIED_PIPELINE="0"), workers=1)
    # Plain text is what it asks for: what looks like a draft is text as well, until it is whole.
    model_server.reply("slow", answer=draft_of(), seconds=0.005)
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert [event.event for event in stream.events] == ["started", "answer"]
    assert answer["meta"]["pipeline"] == "legacy"
    model_server.reply("text", text="A handrail is 865 mm high.")
    plain = ended_well(stream_post(server, question=QUESTION).collect())
    assert plain["blocks"] == [{"type": "markdown", "text": "A handrail is 865 mm high."}]
    assert plain["meta"]["repair_codes"] == []


def test_many_streams_at_once_do_not_mix(server, model_server: ModelServer):
    drafts = {word: draft_of(5, word) for word in (f"word{n}" for n in range(12))}
    streams = []
    for word, draft in drafts.items():
        # One after the other, so that each question gets its own draft; then all go on together.
        paused(model_server, 1, draft)
        streams.append((word, stream_post(server, question=f"About {word}?")))
        streams[-1][1].until("block")
    model_server.released.set()
    for word, stream in streams:
        assert ended_well(stream.collect())["blocks"] == drafts[word]["blocks"]


def test_texts_are_sent_as_they_are(server, model_server):
    text = 'R\u0101 \U0001f6a7 \u2028 line\nbreak \\frac{1}{2} "quoted" data: x\n\nevent: answer'
    model_server.reply(answer={**draft_of(1), "blocks": [{"type": "markdown", "text": text}]})
    stream = stream_post(server, question=QUESTION)
    answer = ended_well(stream.collect())
    assert blocks_of(stream.events) == answer["blocks"]
    assert "event: answer" in answer["blocks"][0]["text"]
