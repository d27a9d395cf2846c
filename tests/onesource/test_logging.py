"""Logs are JSON, and hold nothing of what people wrote or are known by."""

import json
import logging
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog

from onesource.logging import REDACTED
from tests.model_server import MODEL, ModelServer
from tests.services.gunicorn import Gunicorn

Lines = Callable[[], list[dict[str, Any]]]
log = structlog.get_logger("tests.logging")

SECRETS = {
    "e-mail": "mail to jane.doe+site@builder.example failed",
    "bearer token": "header Authorization: Bearer 0123456789abcdef0123456789abcdef",
    "token word": "sent Token 0123456789abcdef",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "api key": "the key sk-proj-0123456789abcdef was refused",
    "ipv4": "connection from 203.0.113.77 refused",
    "ipv6": "connection from 2001:db8:85a3::8a2e:370:7334 refused",
    "password in url": "postgres://onesource:hunter2hunter2@db.example/onesource is away",
    "redis url": "redis://:hunter2hunter2@cache.example:6379/0 is away",
}
PARTS = (
    "jane.doe", "builder.example", "0123456789abcdef", "dXNlcjpwYXNzd29yZA", "203.0.113.77", "8a2e:370", "hunter2",
)  # fmt: skip


def clean(lines: list[dict[str, Any]]) -> bool:
    return not any(part in json.dumps(line) for line in lines for part in PARTS)


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_a_value_is_left_out(log_lines: Lines, text: str) -> None:
    log.warning("something.failed", cause=text)
    (line,) = log_lines()
    assert REDACTED in line["cause"]
    assert clean([line])


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_a_library_s_message_is_left_out(log_lines: Lines, text: str) -> None:
    logging.getLogger("some.library").warning("it said: %s", text)
    (line,) = log_lines()
    assert line["event"].startswith("it said: ")
    assert clean([line])


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS)
def test_a_secret_in_a_traceback_is_left_out(log_lines: Lines, text: str) -> None:
    try:
        raise RuntimeError(text)
    except RuntimeError as error:
        log.exception("something.failed", exc_info=error)
    (line,) = log_lines()
    assert "RuntimeError" in line["exception"]
    assert clean([line])


@pytest.mark.parametrize("nested", [{"headers": {"x": SECRETS["bearer token"]}}, {"seen": [SECRETS["e-mail"]]}])
def test_a_secret_deep_in_a_value_is_left_out(log_lines: Lines, nested: dict[str, Any]) -> None:
    log.warning("something.failed", **nested)
    assert clean(log_lines())


@pytest.mark.parametrize(
    "key",
    ["question", "answer", "password", "token", "Authorization", "cookie", "email", "username", "content", "api_key",
     "comment", "remote_addr", "raw", "body"],
)  # fmt: skip
def test_a_key_that_could_carry_text_of_people_is_left_out(log_lines: Lines, key: str) -> None:
    log.info("something.happened", **{key: "how wide is a ramp"})
    (line,) = log_lines()
    assert line[key] == REDACTED


def test_a_key_that_could_carry_text_of_people_is_left_out_deep_in_a_value(log_lines: Lines) -> None:
    log.info("something.happened", request={"question": "how wide is a ramp"})
    assert "ramp" not in json.dumps(log_lines())


def test_what_operators_need_stays(log_lines: Lines) -> None:
    log.info("turn.completed", question_chars=42, turn_id="0191e3a8-7b7c-7cc3-a1b2-000000000001", version="10.2.3")
    (line,) = log_lines()
    assert line["event"] == "turn.completed"
    assert (line["level"], line["logger"], line["question_chars"]) == ("info", "tests.logging", 42)
    assert line["turn_id"] == "0191e3a8-7b7c-7cc3-a1b2-000000000001"
    assert line["version"] == "10.2.3"
    assert line["timestamp"].endswith("Z")


def test_a_line_is_one_line_whatever_is_in_it(log_lines: Lines) -> None:
    log.info("something.happened", cause='two\nlines and a "quote" \x1b[31m')
    assert log_lines()[0]["cause"] == 'two\nlines and a "quote" \x1b[31m'


# A whole run

PLANTED = {
    "question": "planted-question-about-balustrades",
    "answer": "planted-answer-of-the-model",
    "error of the provider": "planted-error-of-the-provider",
    "email": "planted.person@mail.example",
    "username": "planted-username",
    "password": "planted-password-1",
    "session cookie": "plantedsessioncookie0123456789ab",
    "forwarded address": "198.51.100.23",
    "user agent": "planted-agent/1.0",
    "idempotency key": "planted-idempotency-key",
    "api key": "sk-planted0123456789",
    "query": "planted-query",
}
ANSWER = {"title": "Barriers", "summary": "", "blocks": [{"type": "markdown", "text": PLANTED["answer"]}]}
REPLIES: list[dict[str, Any]] = [
    {"mode": "good", "answer": ANSWER},
    {"mode": "prose", "text": PLANTED["answer"]},
    {"mode": "status", "status": 500, "message": PLANTED["error of the provider"]},
    {"mode": "malformed", "text": PLANTED["answer"]},
    {"mode": "drop"},
]


@pytest.fixture
def server(gunicorn_server: Callable[..., Gunicorn], model_server: ModelServer) -> Gunicorn:
    env = {
        "LLM_PROVIDER": "openai",
        "LLM_BASE_URL": model_server.url,
        "LLM_API_KEY": PLANTED["api key"],
        "LLM_MODEL": MODEL,
        "LLM_TIMEOUT_MS": "3000",
        "LOG_LEVEL": "DEBUG",
        "RATE_LIMIT_PER_USER": "8",
    }
    return gunicorn_server(env, fresh=True, workers=1)


def headers() -> dict[str, str]:
    return {
        "User-Agent": PLANTED["user agent"],
        "Cookie": f"sessionid={PLANTED['session cookie']}",
        "X-Forwarded-For": PLANTED["forwarded address"],
        "Idempotency-Key": PLANTED["idempotency key"] + uuid.uuid4().hex,
    }


def test_a_whole_run_logs_nothing_that_people_wrote_or_are_known_by(
    server: Gunicorn, model_server: ModelServer
) -> None:
    statuses = [*questions_asked(server, model_server), *requests_refused(server), sign_in_refused(server)]
    assert statuses == [200] * 5 + [400, 400, 404, 404, 200, 200]
    everything = server.logs()
    events = {line["event"] for line in server.log_lines()}
    assert "turn.completed" in events
    assert [name for name, secret in PLANTED.items() if secret in everything] == []
    assert server.token not in everything
    assert not any("127.0.0.1" in json.dumps(line) for line in server.log_lines())


def questions_asked(server: Gunicorn, model_server: ModelServer) -> list[int]:
    question: dict[str, str] = {"question": f"{PLANTED['question']} {PLANTED['email']}"}
    statuses = []
    for reply in REPLIES:
        model_server.reply(**reply)
        answered = server.post_json("/chat/enhanced", question, headers=headers())
        question["session_id"] = answered.json()["meta"]["session_id"]
        statuses.append(answered.status)
    return statuses


def requests_refused(server: Gunicorn) -> list[int]:
    broken = b'{"question": "%s' % PLANTED["question"].encode()
    unknown = {"question": PLANTED["question"], "nonsense": PLANTED["answer"]}
    posted = [server.post_json("/chat", body, headers=headers()) for body in (broken, unknown)]
    paths = (f"/chat/sessions/{PLANTED['query']}", f"/{PLANTED['query']}?q={PLANTED['query']}")
    got = [server.get(path, headers=headers()) for path in paths]
    scraped = server.get("/metrics", token=PLANTED["session cookie"], headers=headers())
    return [reply.status for reply in (*posted, *got, scraped)]


def sign_in_refused(server: Gunicorn) -> int:
    page = server.get("/accounts/login", token="")
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    names = {"username": PLANTED["username"], "password": PLANTED["password"]}
    form = urlencode({"csrfmiddlewaretoken": cookie.partition("=")[2], **names})
    sent = {**headers(), "Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    return server.request("POST", "/accounts/login", form.encode(), token="", headers=sent).status
