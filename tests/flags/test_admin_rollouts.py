"""Guarded rollouts and change requests in the admin: who sees them, who acts, and what goes on record."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Event
from audit.services import subject_ref_of
from flags.change_services import change_request
from flags.guarded import ChangeRequest, GuardedRollout
from flags.models import Flag
from flags.rollout_services import rollout_look, rollout_start
from flags.rollouts import Arm, Arms, Measured
from flags.services import flag_set
from tests.cast import Member

pytestmark = pytest.mark.django_db

KEY = "FEATURE_SUGGESTED_ACTIONS"
ROLLOUTS, REQUESTS = "/admin/flags/guardedrollout/", "/admin/flags/changerequest/"
WORSE = Arms(Arm(600, 90), Arm(5400, 54))


def path(row: GuardedRollout | ChangeRequest) -> str:
    return f"/admin/flags/{row._meta.model_name}/{row.pk}/change/"


def page(member: Member, address: str) -> str:
    response = member.browser.get(address)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def press(member: Member, row: GuardedRollout | ChangeRequest, act: str, reason: str = "because") -> int:
    status: int = member.browser.post(path(row), {"act": act, "reason": reason}).status_code
    row.refresh_from_db()
    return status


def last(kind: str) -> dict[str, Any]:
    row = Event.objects.filter(kind=kind).order_by("stream_seq").last()
    assert row is not None
    body = json.loads(bytes(row.body))
    return {"actor": body["actor"], **body["facts"]}


@pytest.fixture
def rollout() -> GuardedRollout:
    flag_set(key=KEY, value=False, actor_ref="", reason="", source="tests")
    return rollout_start(key=KEY, actor_ref="", reason="a trial", source="tests")


def look(rollout: GuardedRollout, window: Arms, seconds: float = 10, slo: str = "") -> None:
    rollout.refresh_from_db()
    now = (rollout.looked_at or rollout.started_at) + timedelta(seconds=seconds)
    rollout_look(rollout_id=rollout.pk, measured=Measured(window, window, slo), now=now)
    rollout.refresh_from_db()


# Rollouts


def test_a_flag_manager_starts_a_rollout(flag_manager: Member) -> None:
    flag_set(key=KEY, value=False, actor_ref="", reason="", source="tests")
    form = {"key": KEY, "hold_minutes": "5", "reason": "a better list"}
    assert flag_manager.browser.post(f"{ROLLOUTS}add/", form).status_code == 302
    rollout = GuardedRollout.objects.get()
    assert (rollout.hold_seconds, Flag.objects.get(name=KEY).rollout_bp) == (300, 100)
    begun = last("rollout.started")
    assert (begun["actor"], begun["source"]) == (subject_ref_of(flag_manager.user), "admin")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ({"key": KEY, "hold_minutes": "5", "reason": ""}, "This field is required"),
        ({"key": KEY, "hold_minutes": "0", "reason": "x"}, "greater than or equal to 1"),
        ({"key": "CONV_DUAL_WRITE", "hold_minutes": "5", "reason": "x"}, "Select a valid choice"),
        ({"key": KEY, "hold_minutes": "5", "reason": "x"}, "on for everyone already"),
    ],
)
def test_what_cannot_be_started_is_said_on_the_form(flag_manager: Member, form: dict[str, str], text: str) -> None:
    response = flag_manager.browser.post(f"{ROLLOUTS}add/", form)
    assert response.status_code == 200
    assert text in response.content.decode()
    assert not GuardedRollout.objects.exists()


def test_a_rollout_shows_both_arms_side_by_side_and_a_chart(reviewer: Member, rollout: GuardedRollout) -> None:
    look(rollout, Arms(Arm(400, 4), Arm(5000, 40)))
    look(rollout, Arms(Arm(500, 5), Arm(5000, 50)))
    shown = page(reviewer, path(rollout))
    assert re.search(r"canary</th> <td>500</td><td>5</td><td>1.00 %</td><td>0.33 to 2.95 %</td> <td>900</td>", shown)
    assert re.search(r"control</th> <td>5000</td><td>50</td>", shown)
    (svg,) = re.findall(r'<svg role="img".*?</svg>', shown)
    assert [len(points.split()) for points in re.findall(r'points="([^"]*)"', svg)] == [2, 2]
    # The policy of the site lets neither run.
    assert "style=" not in svg
    assert "<script" not in svg
    assert "<form" not in shown.partition('id="content-main"')[2].partition("</main>")[0]


def test_a_rollout_that_nobody_looks_at_says_so(reviewer: Member, rollout: GuardedRollout) -> None:
    assert "manage.py worker" not in page(reviewer, path(rollout))
    GuardedRollout.objects.update(started_at=timezone.now() - timedelta(minutes=5))
    assert "manage.py worker" in page(reviewer, path(rollout))
    assert "a worker" in page(reviewer, ROLLOUTS)


def test_a_tripped_rollout_is_acknowledged_with_a_reason(flag_manager: Member, rollout: GuardedRollout) -> None:
    look(rollout, WORSE)
    look(rollout, WORSE)
    assert "Acknowledge the trip" in page(flag_manager, path(rollout))
    change = f"/admin/flags/flag/{Flag.objects.get(name=KEY).pk}/change/"
    form = {
        "everyone": "true",
        "rollout_bp": "0",
        "salt": Flag.objects.get(name=KEY).salt,
        "note": "",
        "reason": "again",
    }
    refused = flag_manager.browser.post(change, form)
    assert refused.status_code == 200
    assert "is locked" in refused.content.decode()
    assert press(flag_manager, rollout, "acknowledge", "") == 200
    assert rollout.is_locking
    assert press(flag_manager, rollout, "acknowledge", "mended") == 302
    assert not rollout.is_locking
    assert last("rollout.acknowledged")["actor"] == subject_ref_of(flag_manager.user)
    assert "by flag_manager: mended" in page(flag_manager, path(rollout))
    assert flag_manager.browser.post(change, form).status_code == 302


def test_a_rollout_is_cancelled(flag_manager: Member, rollout: GuardedRollout) -> None:
    assert press(flag_manager, rollout, "cancel") == 302
    assert (rollout.state, Flag.objects.get(name=KEY).rollout_bp) == ("cancelled", 0)
    assert press(flag_manager, rollout, "cancel") == 200


def test_the_page_of_all_flags_leads_to_what_is_locked(reviewer: Member, rollout: GuardedRollout) -> None:
    assert path(rollout) in page(reviewer, "/admin/flags/")
    look(rollout, WORSE, slo="an SLO is broken")
    assert re.search(rf'{path(rollout)}">[^<]*</a>: <span class="flags-badge">LOCKED', page(reviewer, "/admin/flags/"))


def test_the_api_says_that_a_flag_is_locked_or_needs_approval(
    flag_manager: Member, rollout: GuardedRollout, settings: Any
) -> None:
    look(rollout, WORSE, slo="an SLO is broken")
    body = json.dumps({"value": True, "reason": "again"})
    address, sent = f"/flags/{KEY}", {"data": body, "content_type": "application/json"}
    assert flag_manager.client.put(address, **sent).json()["code"] == "flag_locked"
    settings.FLAG_APPROVALS = 1
    response = flag_manager.client.put("/flags/FEATURE_DYNAMIC_PROMPTS", **sent)
    assert (response.status_code, response.json()["code"]) == (409, "approval_required")


def test_switching_off_in_a_hurry_needs_no_approval_and_is_on_record_as_an_emergency(
    flag_manager: Member, settings: Any
) -> None:
    settings.FLAG_APPROVALS = 2
    address = "/admin/flags/switch-off/USE_UNIFIED_PIPELINE"
    assert flag_manager.browser.post(address, {"reason": "wrong answers"}).status_code == 302
    assert Flag.objects.get(name="USE_UNIFIED_PIPELINE").everyone is False
    assert (last("change.applied")["emergency"], last("change.applied")["reason"]) == (True, "wrong answers")


# Requests


@pytest.fixture
def request_row(settings: Any, admin: Member) -> ChangeRequest:
    settings.FLAG_APPROVALS = 1
    by = subject_ref_of(admin.user)
    return change_request(key=KEY, change={"value": False}, actor_ref=by, reason="it is wrong")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"key": KEY, "kind": "value", "value": "off"}, {"value": False}),
        ({"key": KEY, "kind": "rollout_bp", "value": "12.5 %"}, {"rollout_bp": 1250}),
        ({"key": KEY, "kind": "guarded", "value": "20"}, {"guarded": 1200}),
        ({"key": "CONV_MAX_TURNS", "kind": "value", "value": "7"}, {"value": 7}),
    ],
)
def test_a_flag_manager_asks_for_a_change(
    flag_manager: Member, settings: Any, sent: dict[str, str], kept: dict[str, Any]
) -> None:
    settings.FLAG_APPROVALS = 1
    assert flag_manager.browser.post(f"{REQUESTS}add/", {**sent, "reason": "why not"}).status_code == 302
    row = ChangeRequest.objects.get()
    assert (row.change, row.status, row.requested_by) == (kept, "pending", subject_ref_of(flag_manager.user))


@pytest.mark.parametrize(
    "sent",
    [
        {"key": KEY, "kind": "value", "value": "perhaps"},
        {"key": KEY, "kind": "rollout_bp", "value": "101"},
        {"key": KEY, "kind": "rollout_bp", "value": "nan"},
        {"key": KEY, "kind": "rollout_bp", "value": "1e999"},
        {"key": "CONV_MAX_TURNS", "kind": "value", "value": "-1"},
        {"key": KEY, "kind": "value", "value": "off", "scheduled_for": "2020-01-01 00:00"},
    ],
)
def test_a_change_that_cannot_be_is_said_on_the_form(flag_manager: Member, sent: dict[str, str]) -> None:
    response = flag_manager.browser.post(f"{REQUESTS}add/", {**sent, "reason": "why not"})
    assert response.status_code == 200
    assert "errorlist" in response.content.decode()
    assert not ChangeRequest.objects.exists()


def test_somebody_else_approves(flag_manager: Member, admin: Member, request_row: ChangeRequest) -> None:
    assert press(admin, request_row, "approve") == 200
    assert request_row.status == "pending"
    assert press(flag_manager, request_row, "approve") == 302
    assert (request_row.status, Flag.objects.get(name=KEY).everyone) == ("applied", False)
    shown = page(flag_manager, path(request_row))
    assert "by flag_manager: because" in shown
    assert "by admin: it is wrong" in shown


@pytest.mark.parametrize(
    ("act", "status", "everyone"),
    [("reject", "rejected", True), ("cancel", "cancelled", True), ("apply", "applied", False)],
)
def test_the_other_buttons(
    flag_manager: Member, request_row: ChangeRequest, act: str, status: str, everyone: bool
) -> None:
    assert press(flag_manager, request_row, act, "") == 200
    assert press(flag_manager, request_row, act) == 302
    assert (request_row.status, Flag.objects.get(name=KEY).everyone) == (status, everyone)
    assert request_row.emergency is (act == "apply")


def test_the_list_costs_the_same_with_more_rows(flag_manager: Member, request_row: ChangeRequest) -> None:
    assert "by admin" in page(flag_manager, REQUESTS)
    with CaptureQueriesContext(connection) as one:
        page(flag_manager, REQUESTS)
    for key in ("CONV_DUAL_WRITE", "FEATURE_DYNAMIC_PROMPTS"):
        change_request(key=key, change={"value": True}, actor_ref=request_row.requested_by, reason="too")
    with CaptureQueriesContext(connection) as three:
        page(flag_manager, REQUESTS)
    assert len(three) == len(one)


def test_a_direct_edit_says_where_to_ask(flag_manager: Member, settings: Any) -> None:
    settings.FLAG_APPROVALS = 2
    flag = Flag.objects.get(name=KEY)
    form = {"everyone": "false", "rollout_bp": "0", "salt": flag.salt, "note": "", "reason": "now"}
    response = flag_manager.browser.post(f"/admin/flags/flag/{flag.pk}/change/", form)
    assert response.status_code == 200
    assert "change requests" in response.content.decode()
    assert Flag.objects.get(name=KEY).everyone is True


# Who


@pytest.mark.parametrize("who", ["reviewer", "operator"])
def test_a_reader_sees_and_cannot_act(
    request: pytest.FixtureRequest, who: str, rollout: GuardedRollout, request_row: ChangeRequest
) -> None:
    reader: Member = request.getfixturevalue(who)
    for row in (rollout, request_row):
        assert row.key in page(reader, path(row))
        assert press(reader, row, "cancel") == 403
    assert (rollout.state, request_row.status) == ("running", "pending")
    for address in (ROLLOUTS, REQUESTS):
        assert reader.browser.get(address).status_code == 200
        assert reader.browser.get(f"{address}add/").status_code == 403
        assert reader.browser.post(f"{address}add/", {}).status_code == 403


def test_nobody_else_sees_anything(owner: Member, rollout: GuardedRollout) -> None:
    owner.user.is_staff = True
    owner.user.save()
    assert owner.browser.get(path(rollout)).status_code == 403
    assert owner.browser.get(ROLLOUTS).status_code == 403


@pytest.mark.parametrize("address", [f"{ROLLOUTS}999999/change/", f"{REQUESTS}x/change/"])
def test_a_row_that_is_not_there_leads_back_to_the_list(flag_manager: Member, address: str) -> None:
    assert flag_manager.browser.get(address).status_code == 302


def test_nothing_is_deleted_or_made_by_hand(admin: Member, rollout: GuardedRollout) -> None:
    assert admin.browser.post(f"{ROLLOUTS}{rollout.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin.browser.get(f"{ROLLOUTS}{rollout.pk}/history/").status_code == 403
