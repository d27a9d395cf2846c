"""Against the stand-in model server: always a valid answer in time, marked honestly, one turn on record."""

import json
import socket
import time

import pytest
from prometheus_client import REGISTRY

from chat.models import Turn
from chat.providers import EXTRACTIVE, configured
from tests.chat.asking import QUESTION, ask, content_held, recorded, turn_events
from tests.model_server import DRAFT, MODEL, PROSE, REFUSAL

pytestmark = pytest.mark.django_db
TIMEOUT_SECONDS = 1.0


@pytest.fixture(autouse=True)
def budget(model, flag):
    flag("LLM_TIMEOUT_MS", int(TIMEOUT_SECONDS * 1000))


def ask_timed(member, **fields):
    """As ask_once, and within LLM_TIMEOUT_MS and one second."""
    started = time.monotonic()
    answer = ask_once(member, **fields)
    # The promise is one second more; a busy machine takes what it takes for our own part.
    assert time.monotonic() - started < TIMEOUT_SECONDS + 5
    return answer


def ask_once(member, **fields):
    """The answer, and exactly one turn on record for it."""
    before = recorded()
    answer = ask(member, **fields)
    after = recorded()
    assert {name: after[name] - before[name] for name in ("Turn", "Event", "TurnContent")} == {
        "Turn": 1,
        "Event": 1,
        "TurnContent": 1,
    }
    assert content_held(answer["meta"]["turn_id"])["answer"] == answer
    return answer


def facts() -> dict:
    return json.loads(bytes(turn_events().get().body))["facts"]


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_a_good_reply_is_the_answer(owner, model, path):
    answer = ask_timed(owner, path=path)
    meta = answer["meta"]
    assert {name: answer[name] for name in DRAFT} == DRAFT
    assert (meta["provider"], meta["model"], meta["degraded"], meta["repair_codes"]) == ("openai", MODEL, False, [])
    assert meta["tokens"] == {"prompt": 120, "completion": 60, "estimated": False}
    assert len(model.requests) == 1


def test_the_request_is_what_the_protocol_asks_for(owner, model):
    ask_timed(owner)
    request = model.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer sk-test-0123456789"
    assert request.body["model"] == MODEL
    assert request.body["messages"][0]["role"] == "system"
    assert request.body["messages"][-1] == {"role": "user", "content": QUESTION}
    assert not request.body.get("stream")


def test_the_schema_asked_for_is_strict_and_free_of_bounds(owner, model):
    ask_timed(owner)
    form = model.bodies[0]["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert set(form["json_schema"]["schema"]["required"]) == {"title", "summary", "blocks"}
    assert "maxLength" not in json.dumps(form)


def test_connections_are_kept(owner, model):
    for _ in range(3):
        ask_timed(owner)
    assert len({request.connection for request in model.requests}) == 1


def test_prose_is_shown_word_for_word_and_marked(owner, model):
    model.reply("prose")
    answer = ask_timed(owner)
    assert "".join(block["text"] for block in answer["blocks"]).split() == PROSE.split()
    assert (answer["meta"]["repaired"], answer["meta"]["degraded"]) == (True, False)
    assert "RAW_FALLBACK" in answer["meta"]["repair_codes"]


def test_half_a_json_is_shown_and_marked_as_cut_off(owner, model):
    model.reply("half")
    answer = ask_timed(owner)
    assert "TRUNCATED" in answer["meta"]["repair_codes"]
    assert (answer["meta"]["repaired"], answer["meta"]["degraded"]) == (True, False)
    assert "Handrail height" in json.dumps(answer)


def test_a_whole_answer_that_the_server_calls_cut_off_is_marked(owner, model):
    model.reply("good", finish_reason="length")
    assert ask_timed(owner)["meta"]["repair_codes"] == ["TRUNCATED"]


@pytest.mark.parametrize("mode", ["empty", "null"])
def test_a_reply_of_nothing_invents_nothing(owner, model, mode):
    model.reply(mode)
    answer = ask_timed(owner)
    meta = answer["meta"]
    assert meta["degraded"] or meta["repair_codes"] == ["EMPTY"]
    assert "865 mm above the nosings of the stair" not in json.dumps(answer) or meta["degraded"]


@pytest.mark.parametrize("mode", ["refusal", "filtered"])
def test_a_refusal_is_shown_as_one_and_repairs_nothing(owner, model, mode):
    model.reply(mode, text=REFUSAL)
    answer = ask_timed(owner)
    assert REFUSAL in answer["blocks"][0]["text"]
    assert (answer["meta"]["repaired"], answer["meta"]["repair_codes"]) == (False, ["REFUSAL"])
    assert Turn.objects.get().outcome == "refused"


# mode, options, requests that reach the server, code on record
FAILURES = {
    "500": ("status", {"status": 500}, 2, "server_error"),
    "503": ("status", {"status": 503}, 2, "server_error"),
    "401": ("status", {"status": 401}, 1, "credentials"),
    "403": ("status", {"status": 403}, 1, "credentials"),
    "429": ("status", {"status": 429}, 1, "rate_limited"),
    "400": ("status", {"status": 400}, 1, "rejected"),
    "404": ("status", {"status": 404}, 1, "rejected"),
    "302": ("status", {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}}, 1, "rejected"),
    "204": ("status", {"status": 204}, 1, "rejected"),
    "stall before the headers": ("stall", {"where": "headers"}, 1, "timeout"),
    "stall in the body": ("stall", {"where": "body"}, 1, "timeout"),
    "drip": ("drip", {"seconds": 0.05}, 1, "timeout"),
    "drop before the headers": ("drop", {"where": "headers"}, 2, "dropped"),
    "drop in the body": ("drop", {"where": "body"}, 2, "dropped"),
    "reset before the headers": ("drop", {"where": "headers", "reset": True}, 2, "dropped"),
    "reset in the body": ("drop", {"where": "body", "reset": True}, 2, "dropped"),
    "oversize": ("oversize", {}, 1, "oversize"),
    "half an envelope": ("malformed", {}, 2, "malformed"),
    "HTML": ("html", {}, 2, "malformed"),
    "no choices": ("empty", {}, 2, "malformed"),
}


@pytest.mark.parametrize(("mode", "options", "requests", "code"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_answered_from_the_knowledge_base_and_marked(owner, model, mode, options, requests, code):
    model.reply(mode, **options)
    answer = ask_timed(owner)
    meta = answer["meta"]
    assert (meta["degraded"], meta["provider"], meta["repair_codes"]) == (True, "extractive", [])
    assert answer["blocks"][0]["type"] == "callout"
    assert "could not be reached" in answer["blocks"][0]["title"]
    assert "865" in str(answer["blocks"])
    assert (facts()["outcome"], facts()["failure"]) == ("degraded", code)
    assert len(model.requests) == requests


ENVELOPES = {
    "null": "null",
    "list": "[]",
    "text": '"choices"',
    "choices text": '{"choices": "abc"}',
    "choices null": '{"choices": [null]}',
    "choices of lists": '{"choices": [[]]}',
    "no message": '{"choices": [{}]}',
    "message null": '{"choices": [{"message": null}]}',
    "message text": '{"choices": [{"message": "hello"}]}',
    "content number": '{"choices": [{"message": {"content": 5}}]}',
    "content object": '{"choices": [{"message": {"content": {"a": 1}}}]}',
    "content parts": '{"choices": [{"message": {"content": [{"type": "text", "text": "x"}]}}]}',
    "refusal true": '{"choices": [{"message": {"content": "x", "refusal": true}}]}',
    "deep": "[" * 100_000,
    "huge number": '{"choices": ' + "9" * 10_000 + "}",
    "error with 200": '{"error": {"message": "no"}}',
}


@pytest.mark.parametrize("text", ENVELOPES.values(), ids=ENVELOPES.keys())
def test_a_malformed_envelope_is_a_failure(owner, model, text):
    model.reply("malformed", text=text)
    assert ask_once(owner)["meta"]["degraded"] is True
    assert facts()["failure"] == "malformed"


def envelope(**over) -> str:
    choice = {"message": {"content": json.dumps(DRAFT)}, "finish_reason": "stop"}
    return json.dumps({"model": MODEL, "choices": [choice], **over})


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        {},
        {"prompt_tokens": 1},
        {"prompt_tokens": "12", "completion_tokens": "3"},
        {"prompt_tokens": -1, "completion_tokens": -1},
        {"prompt_tokens": 1.5, "completion_tokens": 2.5},
        {"prompt_tokens": 2**31, "completion_tokens": 2**63},
        {"prompt_tokens": True, "completion_tokens": False},
        {"prompt_tokens": None, "completion_tokens": None},
        {"prompt_tokens": [1], "completion_tokens": {}},
    ],
)
def test_a_usage_that_is_no_number_is_estimated_and_said_to_be(owner, model, usage):
    model.reply("malformed", text=envelope(usage=usage))
    meta = ask_once(owner)["meta"]
    assert meta["provider"] == "openai"
    assert meta["tokens"]["estimated"] is True
    assert meta["tokens"]["prompt"] > 0


@pytest.mark.parametrize(
    "name", [None, "", 5, [], {"a": 1}, "m" * 5000, "\ud800", "a\x00b", "\U0001f3d7" * 300, "<script>"]
)
def test_a_model_name_of_any_kind_leaves_the_answer_valid(owner, model, name):
    model.reply("malformed", text=envelope(model=name))
    answer = ask_once(owner)
    assert (answer["meta"]["provider"], answer["title"]) == ("openai", DRAFT["title"])


@pytest.mark.parametrize("reason", [None, 5, [], "eos", "tool_calls", "stop"])
def test_a_finish_reason_of_any_kind_leaves_the_answer_valid(owner, model, reason):
    choice = {"message": {"content": json.dumps(DRAFT)}, "finish_reason": reason}
    model.reply("malformed", text=json.dumps({"choices": [choice]}))
    assert ask_once(owner)["meta"]["repair_codes"] == []


NASTY = {
    "lone surrogate": "Handrail \ud800 865 mm",
    "NUL": "Handrail\x00 865 mm",
    "control characters": "\x01\x1b[31mHandrail\x7f",
    "right to left": "Handrail \u202e mm 865",
    "markup": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "deep JSON": "[" * 5000,
    "deep object": '{"a":' * 5000,
    "duplicate keys": '{"title":"a","title":"b","summary":"","blocks":[{"type":"markdown","text":"x"}]}',
    "NaN": '{"title":NaN,"summary":"","blocks":[]}',
    "empty blocks": '{"title":"t","summary":"","blocks":[]}',
    "surrogate inside JSON": '{"title":"t\\ud800","summary":"","blocks":[{"type":"markdown","text":"x"}]}',
    "NUL inside JSON": '{"title":"t\\u0000","summary":"","blocks":[{"type":"markdown","text":"\\u0000"}]}',
    "meta of its own": json.dumps({**DRAFT, "meta": {"degraded": False}, "citations": []}),
    "long line": "word " * 30_000,
    "one long word": "w" * 200_000,
    "over 256 KiB": "word " * 60_000,
    "white space": " \n\t ",
    "marks without end": "[1]" * 20_000,
    "a monstrous clause": "D3D14" + "(1)(a)(ii)" * 300,
    "many clauses": " ".join(f"D{n}D{m}" for n in range(1, 30) for m in range(1, 30)),
    "many long standards": " ".join(f"AS/NZS {1000 + n}.{n % 100}:2021" for n in range(2000)),
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_a_reply_of_any_text_is_a_valid_recorded_answer(owner, model, path, text):
    model.reply("text", text=text)
    answer = ask_once(owner, path=path)
    assert (answer["meta"]["provider"], answer["meta"]["degraded"]) == ("openai", False)


def test_the_model_cannot_write_meta_or_citations(owner, model):
    model.reply("text", text=json.dumps({**DRAFT, "citations": [], "meta": {"disclaimer": "none needed"}}))
    meta = ask_once(owner)["meta"]
    assert meta["disclaimer"].startswith("Verify against NCC")
    assert meta["repaired"] is True


def test_a_second_try_that_works_is_a_good_answer(owner, model):
    model.reply("status", status=500, times=1)
    meta = ask_timed(owner)["meta"]
    assert (meta["degraded"], meta["provider"]) == (False, "openai")
    assert len(model.requests) == 2


def test_a_failure_after_a_slow_first_try_stays_within_the_budget(owner, model):
    model.reply("status", status=500, delay=0.7, times=1)
    model.reply("stall", times=1)
    assert ask_timed(owner)["meta"]["degraded"] is True


def test_the_deadline_bounds_the_call_and_not_each_byte(owner, model, flag):
    flag("LLM_TIMEOUT_MS", 300)
    model.reply("drip", seconds=0.02)
    started = time.monotonic()
    assert ask(owner)["meta"]["degraded"] is True
    assert 0.3 <= time.monotonic() - started < 1.0


def test_a_server_without_structured_output_is_asked_without_it_from_then_on(owner, model):
    model.reply("no_response_format")
    assert ask_timed(owner)["meta"]["degraded"] is False
    assert ask_timed(owner)["meta"]["degraded"] is False
    assert ["response_format" in body for body in model.bodies] == [True, False, False]


def test_the_record_says_whether_the_schema_was_enforced(owner, model):
    model.reply("no_response_format")
    ask_timed(owner)
    assert facts()["enforced"] is False


def test_nobody_listening_is_a_failure(owner, settings):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        settings.LLM_BASE_URL = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        configured.cache_clear()
        assert ask_timed(owner)["meta"]["degraded"] is True
    assert facts()["failure"] == "connect"
    configured()._client.close()


def test_what_neither_knows_is_declined_and_degraded(owner, model):
    model.reply("status", status=500)
    answer = ask_timed(owner, question="Who won the football?")
    assert (answer["title"], answer["meta"]["degraded"]) == ("I do not know", True)


def test_the_api_key_is_in_no_log_line_and_no_answer(owner, model, caplog):
    model.reply("status", status=401, message="Incorrect API key provided: sk-test-0123456789")
    answer = ask_timed(owner)
    assert "provider.failed" in caplog.text
    assert "sk-test-0123456789" not in caplog.text + json.dumps(answer)


@pytest.mark.parametrize(("status", "outcome"), [(200, "ok"), (500, "server_error"), (429, "rate_limited")])
def test_each_call_is_counted_by_its_outcome(owner, model, status, outcome):
    def count():
        labels = {"provider": "openai", "outcome": outcome}
        return REGISTRY.get_sample_value("onesource_provider_requests_total", labels) or 0

    before = count()
    model.reply("good") if status == 200 else model.reply("status", status=status)
    ask_timed(owner)
    assert count() == before + 1


def test_without_configuration_the_knowledge_base_answers(owner, model, settings):
    settings.LLM_PROVIDER = "extractive"
    configured.cache_clear()
    assert configured() is EXTRACTIVE
    assert ask_timed(owner)["meta"]["degraded"] is False
    assert model.requests == []
