"""Exports: what a search finds, as a file, with a record of it made first."""

import csv
import io
import json
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Permission
from django.middleware.csrf import get_token
from django.test import Client

from audit.holds import hold_place
from audit.models import Event
from audit.offline import verify
from audit.sealing import log_seal
from audit.services import event_record, subject_ref_of
from chat.models import Session, Turn
from review.room import FIXED_FILES, room_check
from review.services import EXPORT_LIMIT
from review.sheets import COLUMNS, cell_text
from tests.cast import Member, member_make
from tests.chat.asking import ask, problem_of
from tests.review.turns import API, AUDIT, QUESTION, REASON, REFUSALS, turns_make
from tests.tampering import tamper

pytestmark = pytest.mark.django_db


def export(member: Member, **given: str) -> Any:
    return member.browser.post(f"{AUDIT}export", {"reason": REASON, "format": "csv", **given})


def export_api(member: Member, **given: str) -> Any:
    body: dict[str, Any] = {"reason": REASON, "format": "csv"}
    body |= {name: given.pop(name) for name in ("reason", "format") if name in given}
    if given.pop("content", "") == "yes":
        body["content"] = True
    return member.post_json(f"{API}export", {**body, "filters": given})


BOTH = pytest.mark.parametrize(("source", "call"), [("page", export), ("api", export_api)])


def rows_of(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200
    return list(csv.DictReader(io.StringIO(response.getvalue().decode())))


def exports() -> list[dict[str, Any]]:
    return [json.loads(bytes(event.body)) for event in Event.objects.filter(kind="export.made").order_by("pk")]


@BOTH
def test_an_export_holds_what_the_search_finds(reviewer: Member, source: str, call: Any) -> None:
    turns_make(3)
    wanted = turns_make(2, outcome="refused")
    response = call(reviewer, outcome="refused")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in response.headers["Content-Disposition"]
    assert "no-store" in response.headers["Cache-Control"]
    rows = rows_of(response)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["turn_id"] for row in rows] == [str(turn.pk) for turn in wanted]


@BOTH
def test_an_export_is_on_record_with_filters_and_number(
    reviewer: Member, owner: Member, source: str, call: Any
) -> None:
    ref = subject_ref_of(owner.user)
    turns_make(2, ref=ref)
    call(reviewer, user="owner", outcome="answered")
    (body,) = exports()
    facts = body["facts"]
    assert body["actor"] == subject_ref_of(reviewer.user)
    assert (facts["what"], facts["format"], facts["turns"]) == ("turns", "csv", 2)
    assert (facts["reason"], facts["source"]) == (REASON, source)
    assert facts["filters"].pop("until")
    # By their pseudonym: a record names nobody.
    assert facts["filters"] == {"subject_ref": ref, "outcome": "answered"}


@REFUSALS
@BOTH
def test_an_export_that_cannot_be_recorded_is_not_made(
    reviewer: Member, refuse: Any, source: str, call: Any, state: str
) -> None:
    (turn,) = turns_make()
    refuse("export.made", state)
    response = call(reviewer)
    assert problem_of(response, 503, "not_recorded")["detail"].startswith("Nothing is exported")
    assert str(turn.pk) not in response.content.decode()
    assert exports() == []


@pytest.mark.parametrize("reason", ["", "too short", "x" * 501])
def test_without_a_reason_nothing_is_exported(reviewer: Member, reason: str) -> None:
    turns_make()
    page = export(reviewer, reason=reason)
    assert page.status_code == 400
    assert 'id="export_reason_error"' in page.content.decode()
    problem = problem_of(export_api(reviewer, reason=reason), 400, "reason_required")
    assert problem["errors"]["reason"]
    assert exports() == []


BODIES: list[dict[str, Any]] = [
    {},
    {"reason": None},
    {"reason": 1234567890123},
    {"reason": REASON, "content": "yes"},
    {"reason": REASON, "format": ["zip"]},
    {"reason": REASON, "outcome": "refused"},
    {"reason": REASON, "filters": "outcome=refused"},
    {"reason": REASON, "filters": ["outcome"]},
    {"reason": REASON, "filters": {"outcome": ["refused"]}},
    {"reason": REASON, "filters": {"outcome": None}},
    {"reason": REASON, "filters": {"degraded": True}},
    {"reason": REASON, "filters": {"model": "a\x00b"}},
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_not_as_agreed_is_400(reviewer: Member, body: dict[str, Any]) -> None:
    assert problem_of(reviewer.post_json(f"{API}export", body), 400)["errors"]
    assert exports() == []


def test_a_body_with_a_reason_alone_is_enough(reviewer: Member) -> None:
    turns_make(2)
    assert len(rows_of(reviewer.post_json(f"{API}export", {"reason": REASON}))) == 2


def test_a_filter_beside_the_body_is_refused(reviewer: Member) -> None:
    response = reviewer.post_json(f"{API}export?outcome=refused", {"reason": REASON})
    assert problem_of(response, 400, "bad_filter")["errors"]["outcome"]
    assert exports() == []


# A link on any other page makes a browser send the first two, with its cookies.
@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_a_link_makes_no_export(reviewer: Member, method: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(reviewer.user)
    address = f"{API}export?{urlencode({'reason': REASON, 'format': 'zip', 'content': 'yes'})}"
    assert getattr(browser, method)(address).status_code == (200 if method == "options" else 405)
    assert exports() == []


def test_a_session_exports_with_the_csrf_token_alone(reviewer: Member) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(reviewer.user)

    def post(**headers: str) -> Any:
        return browser.post(f"{API}export", {"reason": REASON}, content_type="application/json", headers=headers)

    assert post().status_code == 403
    assert exports() == []
    token = get_token(browser.get(AUDIT).wsgi_request)
    browser.cookies["csrftoken"] = token
    assert rows_of(post(X_CSRFToken=token)) == []


@pytest.mark.parametrize("given", [{"format": "xls"}, {"outcome": "lost"}, {"session": "1"}])
def test_bad_input_is_400(reviewer: Member, given: dict[str, str]) -> None:
    page = export(reviewer, **given)
    assert page.status_code == 400
    assert "Expected" in page.content.decode()
    assert problem_of(export_api(reviewer, **given), 400)["errors"]
    assert exports() == []


def test_a_page_of_errors_keeps_what_was_given(reviewer: Member) -> None:
    page = export(reviewer, reason="short", outcome="refused").content.decode()
    assert '<input type="hidden" name="outcome" value="refused">' in page
    assert "short</textarea>" in page


@BOTH
def test_more_than_the_limit_is_refused(reviewer: Member, source: str, call: Any) -> None:
    turns_make(EXPORT_LIMIT)
    assert len(rows_of(call(reviewer))) == EXPORT_LIMIT
    turns_make(1)
    response = call(reviewer)
    assert response.status_code == 400
    assert "More than 10000 turns match" in response.content.decode()
    assert len(exports()) == 1


def test_the_file_is_made_in_pieces(reviewer: Member, django_assert_num_queries: Any) -> None:
    turns_make(1200)
    response = export(reviewer)
    # One query for 500 turns; until then nothing but the record was read.
    with django_assert_num_queries(3):
        assert len(rows_of(response)) == 1200


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(reviewer: Member, text: str) -> None:
    marks = [{"text": text, "known": False}]
    turns_make(model=text, references=marks)
    (row,) = rows_of(export(reviewer))
    assert row["model"] == row["references"] == row["unknown_references"] == f"'{text}"


@pytest.mark.parametrize("text", ["AS 1428.1", "a=b", "7", "", "D3D14; B1D1"])
def test_other_cells_stay_as_they_are(text: str) -> None:
    assert cell_text(text) == text


def test_cells_say_what_the_turn_was(reviewer: Member) -> None:
    marks = [{"text": "D3D14", "known": True}, {"text": "Z9Z99", "known": False}]
    (turn,) = turns_make(references=marks, repair_codes=["BOM", "FENCE"], arms={"A": True, "B": False}, repaired=True)
    (row,) = rows_of(export(reviewer))
    assert (row["references"], row["unknown_references"]) == ("D3D14; Z9Z99", "Z9Z99")
    assert (row["repair_codes"], row["arms"], row["repaired"]) == ("BOM FENCE", "A=on B=off", "yes")
    assert (row["user"], row["total_ms"], row["first_token_ms"]) == ("a" * 32, "20", "")
    assert row["event"] == str(turn.event_uid)


def test_an_unknown_filter_is_refused(reviewer: Member) -> None:
    assert problem_of(export_api(reviewer, outcom="refused"), 400, "bad_filter")["errors"]["outcom"]
    assert exports() == []


@pytest.mark.parametrize("accept", ["text/csv", "application/json", "*/*"])
def test_a_client_may_ask_for_csv_or_take_problems(reviewer: Member, accept: str) -> None:
    response = reviewer.post_json(f"{API}export", {"reason": REASON}, Accept=accept)
    assert rows_of(response) == []


# ZIP


def zip_of(response: Any) -> zipfile.ZipFile:
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/zip"
    return zipfile.ZipFile(io.BytesIO(response.getvalue()))


@BOTH
def test_a_zip_verifies_offline(reviewer: Member, asked: Turn, tmp_path: Path, source: str, call: Any) -> None:
    log_seal()
    with zip_of(call(reviewer, format="zip", turn=str(asked.pk))) as archive:
        archive.extractall(tmp_path)
    assert not (tmp_path / "content").exists()
    done = subprocess.run([sys.executable, "verify.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert exports()[0]["facts"]["format"] == "zip"


@BOTH
def test_texts_go_into_a_zip_for_those_who_may_reveal(reviewer: Member, asked: Turn, source: str, call: Any) -> None:
    log_seal()
    given = {"content": "yes", "format": "zip", "turn": str(asked.pk)}
    with zip_of(call(reviewer, **given)) as archive:
        assert QUESTION in archive.read(f"content/{asked.pk}.json").decode()
    assert exports()[0]["facts"]["content"] is True
    page = reviewer.browser.get(f"{AUDIT}turns/{asked.pk}/").content.decode()
    assert "Content or evidence exported, with question and answer" in page


@pytest.fixture
def exporter(db: None) -> Member:
    """May export, not reveal."""
    member = member_make("exporter")
    allowed = ("view_event", "export_proof")
    permissions = Permission.objects.filter(codename__in=allowed, content_type__app_label="audit")
    member.user.user_permissions.add(*permissions)
    return member


def test_who_may_not_reveal_exports_no_texts(exporter: Member, asked: Turn) -> None:
    log_seal()
    given = {"content": "yes", "format": "zip", "turn": str(asked.pk)}
    problem_of(export_api(exporter, **given), 403)
    assert exports() == []
    assert 'name="content"' not in exporter.browser.get(AUDIT).content.decode()
    with zip_of(export(exporter, **given)) as archive:
        assert [name for name in archive.namelist() if name.startswith("content")] == []


@BOTH
def test_texts_do_not_go_into_csv(reviewer: Member, source: str, call: Any) -> None:
    response = call(reviewer, content="yes")
    assert response.status_code == 400
    assert "Texts go into a ZIP only." in response.content.decode()
    assert exports() == []


@BOTH
def test_a_zip_before_sealing_is_409_and_not_recorded(reviewer: Member, asked: Turn, source: str, call: Any) -> None:
    response = call(reviewer, format="zip", turn=str(asked.pk))
    assert (response.status_code, response.headers["Retry-After"]) == (409, "10")
    assert exports() == []


def test_a_zip_of_nothing_is_400(reviewer: Member) -> None:
    problem_of(export_api(reviewer, format="zip"), 400, "no_turns")


@BOTH
def test_a_damaged_log_exports_nothing_and_says_so(reviewer: Member, asked: Turn, source: str, call: Any) -> None:
    log_seal()
    tamper('DELETE FROM audit_leaf WHERE "index" = 0')
    problem_of(call(reviewer, format="zip", turn=str(asked.pk)), 409, "log_damaged")
    assert exports() == []


# What the verifier in the file reads


@pytest.mark.parametrize(("limit", "value"), [("FILES_LIMIT", 7), ("TOTAL_LIMIT", 30_000)])
@BOTH
def test_a_zip_that_its_verifier_would_refuse_is_not_made(
    reviewer: Member, asked: Turn, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, source: str, call: Any
) -> None:
    log_seal()
    monkeypatch.setattr(verify, limit, value)
    response = call(reviewer, format="zip", turn=str(asked.pk))
    assert response.status_code == 400
    assert "Narrow the time or another filter" in response.content.decode()
    assert exports() == []


def test_what_a_zip_takes_is_reckoned_closely(
    reviewer: Member, owner: Member, asked: Turn, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [asked.pk, *(uuid.UUID(ask(owner)["meta"]["turn_id"]) for _ in range(20))]
    hold_place(session_id=asked.session_id, reason="a case", actor_ref="", source="tests")
    log_seal()
    with zip_of(export(reviewer, format="zip", content="on")) as archive:
        sizes = [info.file_size for info in archive.infolist()]
    assert len(sizes) == 3 * len(ids) + FIXED_FILES
    reckoned = room_check(ids, with_content=True)
    assert reckoned.files == len(sizes)
    assert sum(sizes) <= reckoned.size <= 2 * sum(sizes)
    monkeypatch.setattr(verify, "FILES_LIMIT", len(sizes))
    monkeypatch.setattr(verify, "TOTAL_LIMIT", reckoned.size)
    zip_of(export(reviewer, format="zip", content="on")).close()
    monkeypatch.setattr(verify, "FILES_LIMIT", len(sizes) - 1)
    assert export(reviewer, format="zip", content="on").status_code == 400


def test_streamed_turns_have_two_events_each(owner: Member) -> None:
    session_id = uuid.UUID(ask(owner, session_id=None)["meta"]["session_id"])
    turn = Turn.objects.get(session_id=session_id)
    for n in (1, 2):
        event_record(
            kind="turn.started", stream=f"session:{session_id}", stream_seq=100 + n, actor_ref="",
            facts=dict.fromkeys(("turn_id", "session_id", "endpoint", "pipeline", "question", "flags"), ""),
        )  # fmt: skip
    assert room_check([turn.pk], with_content=False).files == FIXED_FILES + 2 * 3


def test_an_empty_export_is_a_header(reviewer: Member) -> None:
    assert rows_of(export(reviewer, session=str(uuid.uuid4()))) == []
    assert exports()[0]["facts"]["turns"] == 0
    assert Session.objects.count() == 0
