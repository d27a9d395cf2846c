"""When a turn streams, the heads of streams, and the errors before them, by Django's test client."""

import json
import uuid
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY
from redis import Redis

from audit.models import Event
from chat.api.admission import ADMISSION, PRODUCERS, RESUMED, RESUMED_EACH, Busy
from chat.models import Stream, StreamEvent, Turn
from onesource.errors import TooManyRequests
from tests.chat.asking import ORACLE, QUESTION, answer_of, ask, problem_of
from tests.chat.streaming import draft_of, eventually
from tests.conftest import provider_forget

pytestmark = pytest.mark.django_db
# The producer is a thread with a connection of its own. Such a test costs a second, so that it looks at many cases.
streaming = pytest.mark.django_db(transaction=True)
BODY = {"question": QUESTION}
PLANTED = "zanzibar-cantilever"
SSE = "text/event-stream"


@pytest.fixture(autouse=True)
def producers_finish():
    yield
    eventually(lambda: not Stream.objects.filter(status="running"))


def post(member, body=BODY, *, path="/chat", accept=SSE, **headers):
    return member.post_json(path, body, Accept=accept, **headers)


def events_of(response) -> list[tuple[int, str, dict]]:
    assert response.status_code == 200, response.content
    assert response.headers["Content-Type"] == SSE
    raw = b"".join(response.streaming_content).decode()
    response.close()
    assert raw.endswith("\n\n")
    found = []
    for part in raw[:-2].split("\n\n"):
        if not part.startswith(":"):
            names, values = zip(*(line.split(": ", 1) for line in part.split("\n")), strict=True)
            assert names == ("id", "event", "data")
            found.append((int(values[0]), values[1], json.loads(values[2])))
    return found


def answer_streamed(response) -> dict:
    events = events_of(response)
    assert [n for n, _, _ in events] == list(range(1, len(events) + 1))
    assert (events[0][1], events[-1][1]) == ("started", "answer")
    ORACLE.validate(events[-1][2])
    return events[-1][2]


STREAMED = {
    "Accept alone": (BODY, SSE),
    "Accept with others": (BODY, f"{SSE}, */*;q=0.1"),
    "stream true": ({**BODY, "stream": True}, "*/*"),
    "stream true, application/json": ({**BODY, "stream": True}, "application/json"),
    "both": ({**BODY, "stream": True}, SSE),
    # Nothing else would satisfy this client.
    "stream false, event-stream only": ({**BODY, "stream": False}, SSE),
}
WHOLE = {
    "anything": (BODY, "*/*"),
    "json": (BODY, "application/json"),
    "json before the stream": (BODY, f"application/json, {SSE}"),
    "stream false": ({**BODY, "stream": False}, "application/json"),
    "stream null": ({**BODY, "stream": None}, "*/*"),
    "stream refused": (BODY, f"{SSE};q=0, application/json"),
}


@streaming
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_who_asks_for_a_stream_gets_one(owner, path):
    for body, accept in STREAMED.values():
        answer = answer_streamed(post(owner, body, path=path, accept=accept))
        assert Turn.objects.filter(pk=answer["meta"]["turn_id"]).exists(), (body, accept)
    assert Turn.objects.count() == len(STREAMED)


@pytest.mark.parametrize("name", WHOLE)
def test_who_does_not_gets_the_answer(owner, name):
    body, accept = WHOLE[name]
    response = post(owner, body, accept=accept)
    assert response.headers["Content-Type"] == "application/json"
    answer_of(response)
    assert not Stream.objects.exists()


@pytest.mark.parametrize("given", ["yes", 1, 0, "true", [], {}])
def test_stream_is_true_or_false(owner, given):
    assert "stream" in problem_of(post(owner, {**BODY, "stream": given}), 400)["errors"]
    assert not Turn.objects.exists()


@streaming
def test_the_head_of_a_stream(owner):
    response = post(owner)
    headers = response.headers
    answer_streamed(response)
    assert headers["Content-Type"] == SSE
    assert "no-store" in headers["Cache-Control"]
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["X-Request-ID"]
    assert (headers["RateLimit-Limit"], headers["RateLimit-Remaining"]) == ("30", "29")
    assert int(headers["RateLimit-Reset"]) >= 1
    assert "Content-Length" not in headers


def stream_of(member, turn_id, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return member.client.get(f"/chat/turns/{turn_id}/stream", headers={"Accept": SSE, **named})


@streaming
def test_the_head_of_a_resumed_stream(owner):
    turn_id = answer_streamed(post(owner))["meta"]["turn_id"]
    response = stream_of(owner, turn_id, Last_Event_ID="1")
    assert events_of(response)[0][0] == 2
    assert "no-store" in response.headers["Cache-Control"]
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["X-Request-ID"]


@streaming
def test_a_resumed_stream_is_one_whatever_is_accepted(owner):
    turn_id = answer_streamed(post(owner))["meta"]["turn_id"]
    for accept in ("*/*", "application/json", SSE):
        assert events_of(stream_of(owner, turn_id, Accept=accept))[-1][1] == "answer"


@streaming
def test_a_bad_last_event_id_is_400(owner):
    turn_id = answer_streamed(post(owner))["meta"]["turn_id"]
    for given in ("", "x", "-1", "+1", "1.0", "1 2", "1e3", "9" * 40, "\u0663", "0x1", "null"):
        problem_of(stream_of(owner, turn_id, Last_Event_ID=given), 400, "bad_last_event_id")


@streaming
def test_without_last_event_id_a_stream_comes_from_its_start(owner):
    turn_id = answer_streamed(post(owner))["meta"]["turn_id"]
    assert events_of(stream_of(owner, turn_id)) == events_of(stream_of(owner, turn_id, Last_Event_ID="0"))


def test_other_methods_are_405(owner):
    turn_id = ask(owner)["meta"]["turn_id"]
    for action, methods in {"stream": ("post", "put", "patch", "delete"), "stop": ("get", "put", "delete")}.items():
        for method in methods:
            response = getattr(owner.client, method)(f"/chat/turns/{turn_id}/{action}")
            problem_of(response, 405, "method_not_allowed")
        assert owner.client.head(f"/chat/turns/{turn_id}/{action}").status_code == 405


BAD = {
    "no question": (b"{}", {}, 400),
    "no JSON": (b"{", {}, 400),
    "unknown field": (b'{"question": "?", "x": 1}', {}, 400),
    "too large": (b'{"question": "' + b"x" * 70_000 + b'"}', {}, 413),
    "not JSON by its type": (b"question", {"content_type": "text/plain"}, 415),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_a_problem_and_no_stream(owner, name):
    body, more, status = BAD[name]
    response = owner.client.post("/chat", body, **{"content_type": "application/json", **more}, headers={"Accept": SSE})
    problem_of(response, status)
    assert not Event.objects.filter(kind__startswith="turn.").exists()


def test_a_bad_token_is_401(anonymous):
    anonymous.credentials(HTTP_AUTHORIZATION="Bearer nonsense")
    response = anonymous.post("/chat", json.dumps(BODY), content_type="application/json", headers={"Accept": SSE})
    problem_of(response, 401)
    problem_of(anonymous.get(f"/chat/turns/{uuid.uuid4()}/stream", headers={"Accept": SSE}), 401)
    problem_of(anonymous.post(f"/chat/turns/{uuid.uuid4()}/stop"), 401)


def test_a_strangers_session_is_404(owner, stranger):
    session_id = ask(stranger)["meta"]["session_id"]
    problem_of(post(owner, {**BODY, "session_id": session_id}), 404, "session_not_found")
    assert not Stream.objects.exists()


@streaming
def test_one_too_many_is_429(owner, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    answer_streamed(post(owner))
    response = post(owner)
    problem_of(response, 429, "rate_limited")
    assert (response.headers["RateLimit-Remaining"], int(response.headers["Retry-After"]) >= 1) == ("0", True)


def test_a_bad_idempotency_key_is_400(owner):
    problem_of(post(owner, Idempotency_Key="a b"), 400, "bad_idempotency_key")


@contextmanager
def all_taken(admission):
    taken = []
    try:
        while True:
            try:
                taken.append(admission.take())
            except Busy:
                break
        yield
    finally:
        for place in taken:
            place.release()


@streaming
@pytest.mark.parametrize("admission", [ADMISSION, PRODUCERS], ids=["responses", "producers"])
def test_no_place_is_503_and_takes_none(owner, admission, flag):
    with all_taken(admission):
        response = post(owner, Idempotency_Key="busy")
        problem_of(response, 503, "busy")
    assert int(response.headers["Retry-After"]) >= 1
    answer_streamed(post(owner, Idempotency_Key="busy"))
    assert not Event.objects.filter(kind="turn.started").count() > 1


@streaming
@pytest.mark.parametrize("store", ["database", "redis"])
def test_what_a_stream_keeps_shows_no_text(request, owner, model, store):
    if store == "redis":
        request.getfixturevalue("redis_configured")
    model.reply(answer=draft_of(word=PLANTED))
    answer = answer_streamed(post(owner, {"question": f"Which {PLANTED}?"}))
    assert PLANTED in json.dumps(answer)
    kept = [bytes(sealed) for sealed in Stream.objects.values_list("sealed", flat=True)]
    kept += [bytes(sealed) for sealed in StreamEvent.objects.values_list("sealed", flat=True)]
    if store == "redis":
        with Redis(port=request.getfixturevalue("redis_server").port) as client:
            (name,) = client.scan_iter("*stream*")
            events = client.zrange(name, 0, -1)
            assert 0 < client.ttl(name) <= 600
        assert not StreamEvent.objects.exists()
        kept += events
    assert len(kept) >= 1 + 1 + len(answer["blocks"])
    assert all(kept)
    words = [PLANTED, "markdown", "started", answer["meta"]["session_id"], "Handrails"]
    assert not [word for word in words for raw in kept if word.encode() in raw]
    assert PLANTED not in str(list(Stream.objects.values()))


def lost() -> float:
    return REGISTRY.get_sample_value("onesource_provider_enforcement_lost_total", {"provider": "openai"}) or 0.0


def whole(draft: dict) -> str:
    return json.dumps(draft)


REPAIRED = whole(draft_of(2)).replace("]}", "],}")
# mode and options of the model server, and how much the metric goes up.
ENFORCEMENT = {
    "repaired": ("text", {"text": REPAIRED}, 1),
    "prose": ("text", {"text": "865 mm."}, 1),
    "valid": ("good", {}, 0),
    "truncated": ("text", {"text": whole(draft_of(2))[:150], "finish_reason": "length"}, 0),
    "refusal": ("refusal", {}, 0),
    "filtered": ("text", {"text": "No.", "finish_reason": "content_filter"}, 0),
    "never promised": ("no_response_format", {"text": REPAIRED}, 0),
    "provider away": ("status", {"status": 401}, 0),
}


@streaming
@pytest.mark.parametrize("streamed", [True, False])
def test_lost_enforcement_is_counted(owner, model, streamed):
    for name, (mode, options, expected) in ENFORCEMENT.items():
        provider_forget()
        model.reply(mode, **options)
        before = lost()
        response = post(owner, {**BODY, "stream": streamed}, accept="application/json")
        answer = answer_streamed(response) if streamed else answer_of(response)
        assert lost() - before == expected, name
        assert answer["meta"]["repaired"] is (name in ("repaired", "prose", "truncated", "never promised")), name


@streaming
def test_replays_give_their_places_back(owner, many):
    body = {"question": QUESTION, "stream": True}
    free = ADMISSION._places._value
    for _ in range(3):
        response = owner.post_json("/chat", body, Idempotency_Key="again")
        b"".join(response.streaming_content)
        response.close()
    assert response.headers["Idempotent-Replayed"] == "true"
    assert ADMISSION._places._value == free


def test_a_turn_is_watched_only_so_often_at_once():
    turn, other = uuid.uuid4(), uuid.uuid4()
    leaving = [RESUMED.take(turn) for _ in range(RESUMED_EACH)]
    with pytest.raises(TooManyRequests):
        RESUMED.take(turn)
    RESUMED.take(other)()
    leaving[0]()
    # Given back twice it is one place all the same.
    leaving[0]()
    again = RESUMED.take(turn)
    with pytest.raises(TooManyRequests):
        RESUMED.take(turn)
    for leave in (*leaving[1:], again):
        leave()
    assert not RESUMED._taken
