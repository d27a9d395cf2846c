"""Turns on record as reviewers find them, and the routes that they find them by."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from chat.models import Session, Turn
from tests.ops.turns import GOOD

QUESTION = "Planted-question-7431: how high must a handrail be?"
REASON = "Complaint 4711 of the site manager"
# What the database may have against an event: tests/review/conftest.py.
REFUSALS = pytest.mark.parametrize(
    "state", ["integrity_constraint_violation", "raise_exception", "insufficient_privilege"]
)
AUDIT = "/audit/"
API = "/audit/api/"


def turns_make(count: int = 1, *, ref: str = "a" * 32, session: Session | None = None, **fields: Any) -> list[Turn]:
    """A minute apart, the newest first; all in one session."""
    now = timezone.now()
    session = session or Session.objects.create(id=uuid.uuid4(), subject_ref=ref, created_at=now, last_turn_at=now)
    rows = [
        Turn(
            session=session,
            seq=count - n,
            **{
                **GOOD,
                "event_uid": uuid.uuid4(),
                "created_at": now - timedelta(minutes=n + 1),
                "arms": None,
                **fields,
            },
        )
        for n in range(count)
    ]
    return Turn.objects.bulk_create(rows)


def page_of(member: Any, path: str, status: int = 200, **query: Any) -> str:
    response = member.browser.get(path, query)
    assert response.status_code == status, response.content
    text: str = response.content.decode()
    return text


def found_on(page: str) -> list[str]:
    """The turns that a page of results links to, in its order."""
    rows = page.split("<tbody>")[1].split("</tbody>")[0] if "<tbody>" in page else ""
    return [part.split('/"')[0] for part in rows.split('href="/audit/turns/')[1:]]


def found_by(member: Any, **query: Any) -> list[str]:
    """The turns that the API finds."""
    response = member.get(f"{API}turns", **query)
    assert response.status_code == 200, response.content
    return [row["turn_id"] for row in response.json()["results"]]
