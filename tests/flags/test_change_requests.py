"""Changes that need the approval of others or wait for their time."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit.models import Event
from flags import snapshot
from flags.change_services import (
    SelfApproval,
    change_apply,
    change_approve,
    change_cancel,
    change_reject,
    change_request,
    changes_apply_due,
)
from flags.guarded import ChangeRequest, GuardedRollout, Locked
from flags.models import Flag, Setting, Switch
from flags.registry import BadValue, UnknownFlag
from flags.rollout_services import NotPossible, rollout_look, rollout_start
from flags.rollouts import Arms, Measured
from flags.services import ApprovalRequired, Pinned, ReasonRequired, flag_roll_out, flag_set

pytestmark = pytest.mark.django_db

KEY, DUAL, TURNS = "FEATURE_SUGGESTED_ACTIONS", "CONV_DUAL_WRITE", "CONV_MAX_TURNS"
ME, SHE, HE = "a" * 32, "b" * 32, "c" * 32
Status = ChangeRequest.Status


@pytest.fixture
def approvals(settings: Any) -> Callable[[int], None]:
    def need(number: int) -> None:
        settings.FLAG_APPROVALS = number

    need(1)
    return need


def ask(**fields: Any) -> ChangeRequest:
    return change_request(
        **{"key": KEY, "change": {"value": False}, "actor_ref": ME, "reason": "it is wrong", **fields}
    )


def approve(request: ChangeRequest, by: str = SHE) -> str:
    change_approve(request_id=request.pk, actor_ref=by)
    return status(request)


def status(request: ChangeRequest) -> str:
    request.refresh_from_db()
    return request.status


def everyone() -> bool | None:
    return Flag.objects.get(name=KEY).everyone


def facts(kind: str) -> dict[str, Any]:
    """Of the last event of the kind."""
    row = Event.objects.filter(kind=kind).order_by("stream_seq").last()
    assert row is not None, kind
    body = json.loads(bytes(row.body))
    return {"actor": body["actor"], **body["facts"]}


def soon() -> Any:
    return timezone.now() + timedelta(hours=1)


def later() -> Any:
    return timezone.now() + timedelta(hours=2)


# Approvals


def test_a_change_waits_for_somebody_else(approvals: Any) -> None:
    request = ask()
    assert (request.status, everyone()) == (Status.PENDING, True)
    assert approve(request) == Status.APPLIED
    snapshot.reset()
    assert snapshot.current().boolean(KEY) is False
    asked, changed, applied = facts("change.requested"), facts("flag.changed"), facts("change.applied")
    assert (asked["actor"], asked["change"], asked["reason"]) == (ME, {"value": False}, "it is wrong")
    assert (changed["actor"], changed["reason"], changed["source"]) == (ME, "it is wrong", "change-request")
    assert (applied["actor"], applied["request"], applied["emergency"]) == (SHE, request.pk, False)
    assert facts("change.approved")["actor"] == SHE


def test_nobody_approves_their_own(approvals: Any) -> None:
    request = ask()
    with pytest.raises(SelfApproval, match="somebody else"):
        approve(request, ME)
    with pytest.raises(NotPossible, match="sign in"):
        approve(request, "")
    assert (status(request), everyone()) == (Status.PENDING, True)


def test_two_approvals_are_those_of_two_people(approvals: Any) -> None:
    approvals(2)
    request = ask()
    assert approve(request, SHE) == Status.PENDING
    with pytest.raises(NotPossible, match="already"):
        approve(request, SHE)
    assert everyone() is True
    assert approve(request, HE) == Status.APPLIED


def test_nobody_edits_directly_where_approvals_are_needed(approvals: Any) -> None:
    with pytest.raises(ApprovalRequired, match="ask for it"):
        flag_set(key=KEY, value=False, actor_ref=ME, reason="now", source="tests")
    with pytest.raises(ApprovalRequired):
        flag_roll_out(key=KEY, rollout_bp=100, actor_ref=ME, reason="now", source="tests")
    with pytest.raises(ApprovalRequired):
        rollout_start(key=KEY, actor_ref=ME, reason="now", source="tests")
    assert everyone() is True


def test_without_approvals_a_request_is_made_at_once() -> None:
    request = ask()
    assert (request.status, request.emergency, everyone()) == (Status.APPLIED, False, False)


@pytest.mark.parametrize("act", [change_reject, change_cancel])
def test_a_request_that_is_closed_is_not_made(approvals: Any, act: Callable[..., None]) -> None:
    request = ask()
    with pytest.raises(ReasonRequired):
        act(request_id=request.pk, actor_ref=SHE, reason="")
    act(request_id=request.pk, actor_ref=SHE, reason="no")
    kind = {change_reject: "change.rejected", change_cancel: "change.cancelled"}[act]
    assert (facts(kind)["actor"], facts(kind)["reason"]) == (SHE, "no")
    with pytest.raises(NotPossible):
        approve(request)
    assert everyone() is True


# Emergencies


def test_an_emergency_goes_ahead_and_is_on_record_as_one(approvals: Any) -> None:
    request = ask(emergency=True, reason="answers are wrong")
    assert (status(request), request.emergency, everyone()) == (Status.APPLIED, True, False)
    applied = facts("change.applied")
    assert (applied["actor"], applied["emergency"], applied["reason"]) == (ME, True, "answers are wrong")


def test_a_request_that_waits_can_become_an_emergency(approvals: Any) -> None:
    request = ask()
    with pytest.raises(ReasonRequired):
        change_apply(request_id=request.pk, actor_ref=ME, reason="")
    change_apply(request_id=request.pk, actor_ref=ME, reason="it burns")
    assert (status(request), request.emergency, everyone()) == (Status.APPLIED, True, False)
    assert (facts("change.applied")["emergency"], facts("change.applied")["reason"]) == (True, "it burns")


def test_an_approved_change_made_before_its_time_bypasses_nobody(approvals: Any) -> None:
    request = ask(scheduled_for=soon())
    assert approve(request) == Status.SCHEDULED
    change_apply(request_id=request.pk, actor_ref=ME, reason="now after all")
    assert (status(request), request.emergency) == (Status.APPLIED, False)


# The flag moved


def test_a_request_is_suspended_when_the_flag_changes_meanwhile(approvals: Any, settings: Any) -> None:
    request = ask()
    other = ask(key=DUAL, change={"value": True})
    ask(change={"rollout_bp": 500}, emergency=True)
    assert (status(request), status(other)) == (Status.SUSPENDED, Status.PENDING)
    assert facts("change.suspended")["request"] == request.pk
    with pytest.raises(NotPossible, match="suspended"):
        approve(request)
    assert everyone() is None


def test_a_change_past_our_write_paths_is_noticed_as_well(approvals: Any) -> None:
    request = ask()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE flags_flag SET rollout_bp = 2500 WHERE name = %s", [KEY])
    assert approve(request) == Status.SUSPENDED
    assert everyone() is True


# Their time


def test_a_scheduled_change_is_made_at_its_time_and_not_before() -> None:
    request = ask(scheduled_for=soon())
    assert status(request) == Status.SCHEDULED
    assert (changes_apply_due(), everyone()) == (0, True)
    assert (changes_apply_due(later()), everyone()) == (1, False)
    assert status(request) == Status.APPLIED
    assert changes_apply_due(later()) == 0
    assert facts("flag.changed")["actor"] == ME


def test_with_approvals_a_schedule_begins_with_them(approvals: Any) -> None:
    request = ask(scheduled_for=soon())
    assert (status(request), changes_apply_due(later()), everyone()) == (Status.PENDING, 0, True)
    assert approve(request) == Status.SCHEDULED
    assert facts("change.scheduled")["actor"] == SHE
    assert (changes_apply_due(later()), everyone()) == (1, False)


def test_one_that_cannot_be_made_any_more_is_suspended_and_holds_up_nobody(override_pins: Callable[..., None]) -> None:
    pinned, fine = ask(key=TURNS, change={"value": 5}, scheduled_for=soon()), ask(scheduled_for=soon())
    override_pins(CONV_MAX_TURNS=7)
    assert changes_apply_due(later()) == 1
    assert (status(pinned), status(fine)) == (Status.SUSPENDED, Status.APPLIED)
    assert "pinned by the environment" in facts("change.suspended")["reason"]


def test_a_change_scheduled_before_approvals_were_asked_for_bypasses_nobody(settings: Any) -> None:
    request = ask(scheduled_for=soon())
    settings.FLAG_APPROVALS = 1
    assert changes_apply_due(later()) == 1
    assert (status(request), request.emergency) == (Status.APPLIED, False)


# What is asked for


@pytest.mark.parametrize(
    ("key", "change", "made"),
    [
        (KEY, {"value": False}, lambda: everyone() is False),
        (KEY, {"rollout_bp": 250}, lambda: Flag.objects.get(name=KEY).rollout_bp == 250 and everyone() is None),
        (DUAL, {"value": True}, lambda: Switch.objects.get(name=DUAL).active),
        (TURNS, {"value": 7}, lambda: Setting.objects.get(key=TURNS).value_json == 7),
        ("SCHEMA_REPAIR_RATE_ALERT", {"value": 0.25}, lambda: facts("change.requested")["change"] == {"value": "0.25"}),
    ],
)
def test_each_kind_of_change_is_made(key: str, change: dict[str, Any], made: Callable[[], bool]) -> None:
    assert ask(key=key, change=change).status == Status.APPLIED
    assert made()


def test_a_guarded_rollout_can_be_asked_for(approvals: Any) -> None:
    flag_off = ask(emergency=True)
    request = ask(change={"guarded": 120})
    assert (approve(request), flag_off.status) == (Status.APPLIED, Status.APPLIED)
    rollout = GuardedRollout.objects.get()
    assert (rollout.hold_seconds, rollout.started_by, rollout.state) == (120, ME, "running")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"change": {}}, BadValue),
        ({"change": {"value": False, "rollout_bp": 5}}, BadValue),
        ({"change": {"share": 5}}, BadValue),
        ({"change": {"value": "off"}}, BadValue),
        ({"change": {"rollout_bp": 10_001}}, BadValue),
        ({"change": {"rollout_bp": True}}, BadValue),
        ({"change": {"rollout_bp": 0.5}}, BadValue),
        ({"change": {"guarded": 5}}, BadValue),
        ({"key": DUAL, "change": {"rollout_bp": 5}}, BadValue),
        ({"key": DUAL, "change": {"guarded": 600}}, BadValue),
        ({"key": "NO_SUCH_FLAG"}, UnknownFlag),
        ({"reason": "  "}, ReasonRequired),
        ({"scheduled_for": timezone.now() - timedelta(days=1)}, BadValue),
        ({"scheduled_for": timezone.now() + timedelta(days=1), "emergency": True}, BadValue),
    ],
)
def test_what_cannot_be_made_is_not_taken(fields: dict[str, Any], error: type[Exception]) -> None:
    before = Event.objects.count()
    with pytest.raises(error):
        ask(**fields)
    assert (Event.objects.count(), ChangeRequest.objects.count()) == (before, 0)


def test_a_pinned_or_a_locked_flag_takes_no_request(override_pins: Callable[..., None]) -> None:
    ask()
    rollout = rollout_start(key=KEY, actor_ref=ME, reason="a trial", source="tests")
    rollout_look(rollout_id=rollout.pk, measured=Measured(Arms(), Arms(), "an SLO is broken"))
    with pytest.raises(Locked):
        ask(change={"value": True}, emergency=True)
    override_pins(CONV_MAX_TURNS=5)
    with pytest.raises(Pinned):
        ask(key=TURNS, change={"value": 5})


# The record


def steps(request: ChangeRequest) -> dict[str, tuple[Callable[[], Any], str]]:
    one = {"request_id": request.pk, "actor_ref": SHE}
    return {
        "request": (lambda: ask(key=DUAL, change={"value": True}), "change.requested"),
        "approve": (lambda: change_approve(**one), "change.approved"),
        "approve, made": (lambda: change_approve(**one), "change.applied"),
        "reject": (lambda: change_reject(**one, reason="no"), "change.rejected"),
        "cancel": (lambda: change_cancel(**one, reason="no"), "change.cancelled"),
        "emergency": (lambda: change_apply(**one, reason="now"), "change.applied"),
        "suspended": (lambda: ask(change={"rollout_bp": 5}, emergency=True), "change.suspended"),
    }


@pytest.mark.parametrize("step", ["request", "approve", "approve, made", "reject", "cancel", "emergency", "suspended"])
def test_every_step_is_on_record_and_undone_with_it(approvals: Any, step: str) -> None:
    request = ask()
    act, kind = steps(request)[step]
    before = Event.objects.count()
    with transaction.atomic():
        act()
        assert Event.objects.filter(kind=kind).exists()
        transaction.set_rollback(True)
    assert (Event.objects.count(), ChangeRequest.objects.count()) == (before, 1)
    assert (status(request), everyone()) == (Status.PENDING, True)
