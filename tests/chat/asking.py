"""What the tests of the chat app share: reading an answer, a problem, and the record."""

import uuid
from typing import Any

from jsonschema import Draft202012Validator

from audit.models import ContentKey, Event, TurnContent
from audit.selectors import content_of, content_read
from chat.guard.schema import ANSWER
from chat.models import Session, Turn

# Not the validator that the product uses.
ORACLE = Draft202012Validator(ANSWER, format_checker=Draft202012Validator.FORMAT_CHECKER)
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "request_id"}
QUESTION = "How high must a handrail be in a house?"


def status_of(response: Any) -> int:
    """Of Django's test client or of tests.services.gunicorn."""
    return response.status_code if hasattr(response, "status_code") else response.status


def answer_of(response: Any) -> dict[str, Any]:
    assert status_of(response) == 200, response.json()
    answer = response.json()
    ORACLE.validate(answer)
    return answer


def problem_of(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """The problem details, which have the one shape that all errors have (RFC 9457 and DESIGN section 4)."""
    assert status_of(response) == status, (status_of(response), response.headers)
    assert response.headers["Content-Type"].split(";")[0] == "application/problem+json"
    problem = response.json()
    assert problem.keys() - {"errors"} == PROBLEM_FIELDS
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert all(isinstance(problem[name], str) and problem[name] for name in PROBLEM_FIELDS - {"status"})
    assert code is None or problem["code"] == code
    return problem


def ask(member: Any, question: str = QUESTION, *, path: str = "/chat", **fields: Any) -> dict[str, Any]:
    """One question, answered."""
    return answer_of(member.post_json(path, {"question": question, **fields}))


def converse(member: Any, *questions: str, session_id: str = "", path: str = "/chat") -> list[dict[str, Any]]:
    """Questions in one session, answered."""
    session_id = session_id or str(uuid.uuid4())
    return [ask(member, question, path=path, session_id=session_id) for question in questions]


def recorded() -> dict[str, int]:
    """How many rows there are of all that a turn writes."""
    models = (Session, Turn, Event, TurnContent, ContentKey)
    return {model.__name__: model.objects.count() for model in models}


def turn_events() -> Any:
    return Event.objects.filter(kind="turn.completed").order_by("pk")


def content_held(turn_id: str) -> dict[str, Any]:
    """The decrypted content of a turn."""
    row = content_of(uuid.UUID(turn_id))
    assert row is not None
    return content_read(row)


def session_of(answers) -> uuid.UUID:
    return uuid.UUID(answers[0]["meta"]["session_id"])


def contexts() -> list[str]:
    return list(Turn.objects.order_by("created_at").values_list("context", flat=True))
