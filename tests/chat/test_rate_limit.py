import time

import pytest
from redis import Redis

from chat.models import Turn
from tests.chat.asking import answer_of, ask, problem_of
from tests.conftest import process_reset

pytestmark = pytest.mark.django_db
BODY = {"question": "?"}


@pytest.fixture(params=["memory", "redis"])
def counting(request):
    """Where the places are counted."""
    if request.param == "redis":
        request.getfixturevalue("redis_configured")


@pytest.mark.usefixtures("counting")
def test_each_answer_tells_what_is_left(owner, flag):
    flag("RATE_LIMIT_PER_USER", 3)
    left = [owner.post_json("/chat", BODY).headers for _ in range(3)]
    assert [headers["RateLimit-Limit"] for headers in left] == ["3"] * 3
    assert [headers["RateLimit-Remaining"] for headers in left] == ["2", "1", "0"]
    assert all(1 <= int(headers["RateLimit-Reset"]) <= 61 for headers in left)


@pytest.mark.usefixtures("counting")
def test_one_too_many_is_429_that_says_when_to_come_back(owner, flag):
    flag("RATE_LIMIT_PER_USER", 2)
    ask(owner)
    ask(owner)
    response = owner.post_json("/chat", BODY)
    problem_of(response, 429, "rate_limited")
    assert response.headers["RateLimit-Remaining"] == "0"
    assert 1 <= int(response.headers["Retry-After"]) <= 61
    assert Turn.objects.count() == 2


@pytest.mark.usefixtures("counting")
def test_each_caller_has_an_allowance_of_their_own(owner, stranger, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    ask(owner)
    problem_of(owner.post_json("/chat", BODY), 429)
    assert ask(stranger)["meta"]["turn"] == 1


@pytest.mark.usefixtures("counting")
def test_both_endpoints_share_the_allowance(owner, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    ask(owner, path="/chat")
    problem_of(owner.post_json("/chat/enhanced", BODY), 429)


def test_the_window_moves(owner, flag, monkeypatch):
    flag("RATE_LIMIT_PER_USER", 2)
    start = time.time()
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: start)
    ask(owner)
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: start + 40)
    ask(owner)
    problem_of(owner.post_json("/chat", BODY), 429)
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: start + 61)
    ask(owner)
    problem_of(owner.post_json("/chat", BODY), 429)


@pytest.mark.usefixtures("counting")
def test_a_lower_limit_counts_what_was_asked_before(owner, flag):
    flag("RATE_LIMIT_PER_USER", 5)
    for _ in range(3):
        ask(owner)
    flag("RATE_LIMIT_PER_USER", 2)
    problem_of(owner.post_json("/chat", BODY), 429)


def test_a_bad_request_takes_no_place(owner, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    problem_of(owner.post_json("/chat", {"question": ""}), 400)
    assert answer_of(owner.post_json("/chat", BODY))["meta"]["turn"] == 1


def test_reading_sessions_takes_no_place(owner, flag):
    flag("RATE_LIMIT_PER_USER", 1)
    session_id = ask(owner)["meta"]["session_id"]
    assert owner.get("/chat/sessions").status_code == 200
    assert owner.get(f"/chat/sessions/{session_id}").status_code == 200


def test_no_caller_stands_in_redis_by_name(owner, redis_configured):
    ask(owner)
    with Redis(port=redis_configured.port) as client:
        keys = b" ".join(client.keys("*"))
    assert keys
    assert owner.user.username.encode() not in keys


def test_with_redis_all_workers_count_together(gunicorn_server, redis_server):
    redis_server.flush()
    server = gunicorn_server({"RATE_LIMIT_PER_USER": "5", "REDIS_URL": redis_server.url})
    token = server.token_for("counted")
    statuses = [server.post_json("/chat", BODY, token=token).status for _ in range(12)]
    assert statuses == [200] * 5 + [429] * 7


def test_with_redis_away_each_worker_goes_on_counting(gunicorn_server):
    env = {"RATE_LIMIT_PER_USER": "3", "REDIS_URL": "redis://127.0.0.1:1/0"}
    server = gunicorn_server(env)
    token = server.token_for("counted")
    statuses = [server.post_json("/chat", BODY, token=token).status for _ in range(12)]
    assert set(statuses) == {200, 429}
    assert 3 <= statuses.count(200) <= 6


@pytest.mark.parametrize("kind", ["redis", "cluster", "sentinel"], indirect=True)
def test_however_redis_is_reached_all_processes_count_in_it(kind, owner, flag):
    flag("RATE_LIMIT_PER_USER", 2)
    assert [owner.post_json("/chat", {"question": "?"}).status_code for _ in range(3)] == [200, 200, 429]
    # As for another process: nothing of what this one counts for itself is left.
    process_reset()
    assert owner.post_json("/chat", {"question": "?"}).status_code == 429
    kind.wipe()
    assert owner.post_json("/chat", {"question": "?"}).status_code == 200
