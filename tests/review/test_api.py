"""The reviewers' API: the same as the pages, as data."""

import uuid
from typing import Any

import pytest

from chat.models import Turn
from tests.cast import Member
from tests.chat.asking import problem_of
from tests.chat.test_openapi import document, schema_of
from tests.review.turns import API, REASON, turns_make

__all__ = ["document"]
pytestmark = pytest.mark.django_db


def test_a_turn_in_the_list(reviewer: Member) -> None:
    marks = [{"text": "D3D14", "known": True}]
    (turn,) = turns_make(references=marks, repair_codes=["FENCE"], arms={"A": True}, first_token_us=7)
    (found,) = reviewer.get(f"{API}turns").json()["results"]
    assert (found["turn_id"], found["user"], found["event"]) == (str(turn.pk), "a" * 32, str(turn.event_uid))
    assert (found["references"], found["repair_codes"], found["arms"]) == (marks, ["FENCE"], {"A": True})
    assert (found["total_us"], found["first_token_us"]) == (20_000, 7)


def test_a_turn_with_its_evidence(reviewer: Member, asked: Turn) -> None:
    found = reviewer.get(f"{API}turns/{asked.pk}").json()
    assert found["facts"]["turn_id"] == str(asked.pk)
    assert found["content"]["kind"] == "held"
    assert [moment["what"] for moment in found["timeline"]] == ["Question received", "Answer recorded"]
    assert found["repairs"] == []


@pytest.mark.parametrize("turn_id", ["x", str(uuid.UUID(int=5)), "ABCDEF00-0000-4000-8000-000000000000", "1" * 500])
def test_a_turn_that_nobody_has_is_404(reviewer: Member, turn_id: str) -> None:
    problem_of(reviewer.get(f"{API}turns/{turn_id}"), 404, "turn_not_found")


def test_the_next_page_has_an_address_with_the_filters(reviewer: Member) -> None:
    turns_make(51)
    url = reviewer.get(f"{API}turns", outcome="answered").json()["next"]
    assert "outcome=answered" in url
    assert url.startswith("http://testserver/audit/api/turns?")


def test_what_is_answered_is_as_documented(reviewer: Member, asked: Turn, document: Any) -> None:
    turns_make(51)
    for path, url in (("/audit/api/turns", f"{API}turns"), ("/audit/api/turns/{turn_id}", f"{API}turns/{asked.pk}")):
        assert list(schema_of(document, path, "get").iter_errors(reviewer.get(url).json())) == []
    revealed = reviewer.post_json(f"{API}turns/{asked.pk}/reveal", {"reason": REASON}).json()
    assert list(schema_of(document, "/audit/api/turns/{turn_id}/reveal", "post").iter_errors(revealed)) == []


def test_every_filter_is_documented(document: Any) -> None:
    listed = document["paths"]["/audit/api/turns"]["get"]["parameters"]
    parameters = {parameter["name"]: parameter for parameter in listed if parameter["name"] != "cursor"}
    given = document["components"]["schemas"]["Export"]["properties"]["filters"]["properties"]
    assert {"from", "to", "user", "session", "turn", "arm", "reference", "repair_code"} <= parameters.keys()
    assert parameters.keys() == given.keys()
    assert all(described["description"] for described in (*parameters.values(), *given.values()))


@pytest.mark.parametrize("path", ["turns/", "turns/x/", "export/"])
def test_a_trailing_slash_is_404(reviewer: Member, path: str) -> None:
    assert reviewer.get(f"{API}{path}").status_code == 404


def test_a_reader_that_wants_no_json_is_406(reviewer: Member) -> None:
    response = reviewer.client.get(f"{API}turns", headers={"Accept": "image/png"})
    assert response.status_code == 406
