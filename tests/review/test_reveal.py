"""Seeing question and answer: for a reason, on record first, each time anew."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from audit.models import ContentKey, Event, TurnContent
from audit.services import subject_ref_of
from chat.models import Session, Turn
from tests.cast import Member
from tests.chat.asking import ask, content_held, problem_of
from tests.model_server import ModelServer
from tests.review.turns import API, AUDIT, QUESTION, REASON, REFUSALS

pytestmark = pytest.mark.django_db


def reveal(member: Member, turn: Turn, reason: str = REASON, **headers: str) -> Any:
    return member.browser.post(f"{AUDIT}turns/{turn.pk}/reveal", {"reason": reason}, headers=headers)


def reveal_api(member: Member, turn: Turn, **body: Any) -> Any:
    return member.post_json(f"{API}turns/{turn.pk}/reveal", body or {"reason": REASON})


def revealed() -> list[dict[str, Any]]:
    events = Event.objects.filter(kind="content.revealed").order_by("pk")
    return [json.loads(bytes(event.body)) for event in events]


@pytest.mark.parametrize(("source", "call"), [("page", reveal), ("api", reveal_api)])
def test_a_reveal_shows_the_texts_and_is_on_record(reviewer: Member, asked: Turn, source: str, call: Any) -> None:
    response = call(reviewer, asked)
    assert response.status_code == 200
    assert QUESTION in response.content.decode()
    assert "no-store" in response.headers["Cache-Control"]
    (body,) = revealed()
    assert body["actor"] == subject_ref_of(reviewer.user)
    assert body["facts"] == {
        "turn_id": str(asked.pk),
        "session_id": str(asked.session_id),
        "reason": REASON,
        "source": source,
    }


def test_the_page_shows_the_whole_answer(reviewer: Member, asked: Turn) -> None:
    answer = content_held(str(asked.pk))["answer"]
    page = reveal(reviewer, asked).content.decode()
    assert answer["title"] in page
    assert all(item in page for block in answer["blocks"] for item in block.get("items", []))
    assert REASON in page


def test_the_api_gives_the_answer_as_it_was_given(reviewer: Member, asked: Turn) -> None:
    held = content_held(str(asked.pk))
    found = reveal_api(reviewer, asked).json()
    assert (found["question"], found["answer"], found["raw"]) == (QUESTION, held["answer"], None)
    assert Event.objects.get(uid=found["event"]).kind == "content.revealed"


BLOCKS = [
    {"type": "markdown", "text": "<script>alert(1)</script>"},
    {"type": "table", "caption": "<b>cap</b>", "columns": ["<i>c</i>"], "rows": [["<u>cell</u>"]]},
    {"type": "code", "language": "x", "text": "</code><img src=x>"},
    {"type": "callout", "tone": "danger", "title": "<h1>t</h1>", "text": "<em>e</em>"},
    {"type": "list", "ordered": True, "items": ["<a href=x>l</a>"]},
]


def test_what_a_model_writes_is_shown_as_text(reviewer: Member, owner: Member, openai_configured: ModelServer) -> None:
    reply = "```\n" + json.dumps({"title": "T", "summary": "S", "blocks": BLOCKS}) + "\n```"
    openai_configured.reply(text=reply)
    turn = Turn.objects.get(pk=ask(owner, "<s>q</s>")["meta"]["turn_id"])
    page = reveal(reviewer, turn).content.decode()
    main = page.split("<main")[1]
    for tag in ("<script", "<b>", "<i>", "<u>", "<img", "<em>", "<a href=x>", "<s>"):
        assert tag not in main
        assert tag.replace("<", "&lt;").replace(">", "&gt;") in main
    assert "The model&#x27;s reply before the guard" in main or "The model's reply before the guard" in main
    assert reveal_api(reviewer, turn).json()["raw"] == reply


def test_each_look_is_recorded_for_itself(reviewer: Member, asked: Turn) -> None:
    for _ in range(3):
        reveal(reviewer, asked)
    assert len(revealed()) == 3
    stream = Event.objects.filter(stream=f"session:{asked.session_id}").order_by("stream_seq")
    assert list(stream.values_list("stream_seq", flat=True)) == [1, 2, 3, 4]
    assert Session.objects.get(pk=asked.session_id).event_count == 4


BAD_REASONS = ["", " ", "too short", "a         b        c      ", "x" * 501, "\x00" * 20, "\u200b"]


@pytest.mark.parametrize("reason", BAD_REASONS)
def test_without_a_reason_nothing_is_shown(reviewer: Member, asked: Turn, reason: str) -> None:
    response = reveal(reviewer, asked, reason)
    assert response.status_code == 400
    page = response.content.decode()
    assert "Say why" in page
    assert 'id="reveal_reason_error"' in page
    problem = reveal_api(reviewer, asked, reason=reason)
    assert problem_of(problem, 400)["errors"]["reason"]
    assert QUESTION not in page + problem.content.decode()
    assert revealed() == []


@pytest.mark.parametrize("body", [{}, {"reason": None}, {"reason": 1234567890123}, {"reason": REASON, "force": True}])
def test_a_body_that_is_not_as_agreed_is_400(reviewer: Member, asked: Turn, body: dict[str, Any]) -> None:
    response = reviewer.post_json(f"{API}turns/{asked.pk}/reveal", body)
    assert problem_of(response, 400)["errors"]
    assert revealed() == []


@pytest.mark.parametrize("reason", ["r" * 500, "Ärger mit 日本語 und \U0001f3d7", "a b c d e f g h i j"])
def test_a_reason_that_is_one(reviewer: Member, asked: Turn, reason: str) -> None:
    assert reveal(reviewer, asked, reason).status_code == 200
    assert revealed()[0]["facts"]["reason"] == reason


@REFUSALS
@pytest.mark.parametrize("call", [reveal, reveal_api])
def test_a_look_that_cannot_be_recorded_shows_nothing(
    reviewer: Member, asked: Turn, refuse: Any, call: Any, state: str
) -> None:
    refuse("content.revealed", state)
    answer = content_held(str(asked.pk))["answer"]
    response = call(reviewer, asked)
    assert problem_of(response, 503, "not_recorded")["detail"].startswith("Nothing is shown")
    told = response.content.decode()
    assert QUESTION not in told
    assert answer["title"] not in told
    assert revealed() == []
    assert Session.objects.get(pk=asked.session_id).event_count == 1


def test_the_record_is_committed_before_the_texts_are_decrypted(reviewer: Member, asked: Turn) -> None:
    """A text that cannot be decrypted: the attempt is on record all the same."""
    TurnContent.objects.update(sealed=b"\x00" * 40)
    assert reveal(reviewer, asked).status_code == 410
    assert len(revealed()) == 1


def gone_erased(owner: Member, turn: Turn) -> str:
    owner.client.delete(f"/chat/sessions/{turn.session_id}")
    return "Content erased on"


def gone_expired(owner: Member, turn: Turn) -> str:
    TurnContent.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    return "Content expired on"


def gone_key(owner: Member, turn: Turn) -> str:
    ContentKey.objects.all().delete()
    return "no record says why"


@pytest.mark.parametrize("gone", [gone_erased, gone_expired, gone_key])
def test_content_that_is_gone_is_410_and_says_why(reviewer: Member, owner: Member, asked: Turn, gone: Any) -> None:
    sentence = gone(owner, asked)
    page = reveal(reviewer, asked, Accept="text/html")
    assert page.status_code == 410
    assert sentence in page.content.decode()
    assert sentence in problem_of(reveal_api(reviewer, asked), 410, "content_gone")["detail"]
    assert revealed() == []


@pytest.mark.parametrize(
    "turn_id", ["x", "00000000-0000-4000-8000-000000000000", "ABCDEF00-0000-4000-8000-000000000000"]
)
def test_a_turn_that_nobody_has_is_404(reviewer: Member, turn_id: str) -> None:
    problem_of(reviewer.post_json(f"{API}turns/{turn_id}/reveal", {"reason": REASON}), 404, "turn_not_found")


def test_the_form_needs_the_csrf_token(reviewer: Member, asked: Turn) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(reviewer.user)
    assert browser.post(f"{AUDIT}turns/{asked.pk}/reveal", {"reason": REASON}).status_code == 403
    assert revealed() == []


def test_a_reveal_names_nobody(reviewer: Member, asked: Turn) -> None:
    reveal(reviewer, asked)
    (event,) = Event.objects.filter(kind="content.revealed")
    assert b"reviewer" not in bytes(event.body)
