"""Changes that wait: for the approval of others, for their time, or for both.

A change is one of {"value": ...} (for everyone, or a setting's), {"rollout_bp": 0..10000} (the share of a cohort flag)
and {"guarded": hold in seconds} (the start of a guarded rollout).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit import actions
from audit.services import event_record
from flags.guarded import ChangeRequest
from flags.registry import BadValue, UnknownFlag, Value, registered
from flags.rollout_services import NotPossible, reason_required, rollout_begin, start_check
from flags.services import edit_check, flag_set, flag_write, row_locked, share_check, share_write

log = structlog.get_logger(__name__)
Status = ChangeRequest.Status
SOURCE = "change-request"


class SelfApproval(NotPossible):
    """Nobody approves what they asked for."""


def change_request(
    *,
    key: str,
    change: Mapping[str, Value],
    actor_ref: str,
    reason: str,
    scheduled_for: datetime | None = None,
    emergency: bool = False,
) -> ChangeRequest:
    """Asks for a change; it is made at once when no approval is needed and no time given, or in an emergency.

    Raises UnknownFlag, BadValue, Pinned, Locked or ReasonRequired.
    """
    reason, now = reason_required(reason), timezone.now()
    change = _checked(key, change)
    edit_check(key, reason)
    if scheduled_for and emergency:
        raise BadValue("an emergency is made at once: leave the time empty")
    if scheduled_for and scheduled_for <= now:
        raise BadValue("the time must lie in the future")
    with transaction.atomic():
        row = row_locked(key)
        request = ChangeRequest.objects.create(
            key=key,
            change=change,
            asked_state=row.state(),
            reason=reason,
            requested_by=actor_ref,
            requested_at=now,
            scheduled_for=scheduled_for,
        )
        time = scheduled_for.isoformat(timespec="seconds") if scheduled_for else None
        told = {name: str(value) if isinstance(value, float) else value for name, value in change.items()}
        _record(request, actions.CHANGE_REQUESTED, actor_ref, change=told, reason=reason, scheduled_for=time)
        if emergency or not settings.FLAG_APPROVALS:
            _go_ahead(request, actor_ref=actor_ref, reason=reason)
    return request


def _checked(key: str, change: Mapping[str, Value]) -> dict[str, Value]:
    entry = registered(key)
    match dict(change):
        case {"value": value, **others} if not others:
            return {"value": entry.check(value)}
        case {"rollout_bp": int(share), **others} if not others:
            share_check(key, share)
            return {"rollout_bp": share}
        case {"guarded": int(hold_seconds), **others} if not others:
            start_check(key, hold_seconds)
            return {"guarded": hold_seconds}
    raise BadValue("expected one of value, rollout_bp (0 to 10000) and guarded (the hold in seconds)")


def change_approve(*, request_id: int, actor_ref: str, reason: str = "") -> ChangeRequest:
    """One person's approval; the one that completes the number makes the change, or schedules it.

    Raises SelfApproval, NotPossible, or BadValue when the change cannot be made any more.
    """
    with transaction.atomic():
        request = _open(request_id, Status.PENDING)
        if not actor_ref:
            raise NotPossible("an approval is a person's: sign in")
        if actor_ref == request.requested_by:
            raise SelfApproval(
                "somebody else has to approve what you asked for; in an emergency apply it with a reason"
            )
        if any(approval["by"] == actor_ref for approval in request.approvals):
            raise NotPossible("you have approved this already; somebody else has to")
        at = timezone.now().isoformat(timespec="seconds")
        request.approvals = [*request.approvals, {"by": actor_ref, "at": at, "reason": reason.strip()[:500]}]
        request.save()
        _record(request, actions.CHANGE_APPROVED, actor_ref, reason=reason.strip()[:500])
        if len(request.approvals) >= settings.FLAG_APPROVALS:
            _go_ahead(request, actor_ref=actor_ref, reason=reason)
    return request


def change_apply(*, request_id: int, actor_ref: str, reason: str) -> ChangeRequest:
    """Makes an open change at once, without waiting for its time or for approvals that are missing: the way out of an
    emergency. Raises ReasonRequired, NotPossible, or BadValue when the change cannot be made any more."""
    reason = reason_required(reason)
    with transaction.atomic():
        request = _open(request_id, *ChangeRequest.OPEN)
        _apply(request, actor_ref=actor_ref, reason=reason)
    return request


def change_reject(*, request_id: int, actor_ref: str, reason: str) -> None:
    """Raises ReasonRequired or NotPossible."""
    _close(request_id, Status.REJECTED, actions.CHANGE_REJECTED, actor_ref, reason)


def change_cancel(*, request_id: int, actor_ref: str, reason: str) -> None:
    """Raises ReasonRequired or NotPossible."""
    _close(request_id, Status.CANCELLED, actions.CHANGE_CANCELLED, actor_ref, reason)


def switch_off(*, key: str, actor_ref: str, reason: str, source: str) -> None:
    """Turns a kill switch off now; where changes need approval, as an emergency. Raises BadValue."""
    if settings.FLAG_APPROVALS:
        change_request(key=key, change={"value": False}, actor_ref=actor_ref, reason=reason, emergency=True)
    else:
        flag_set(key=key, value=False, actor_ref=actor_ref, reason=reason, source=source)


def changes_apply_due(now: datetime | None = None) -> int:
    """Makes the scheduled changes whose time has come, each in a transaction of its own; of how many that came true.

    One that cannot be made any more is suspended, with the cause as its reason.
    """
    due = ChangeRequest.objects.filter(status=Status.SCHEDULED, scheduled_for__lte=now or timezone.now())
    applied = 0
    for request_id in due.order_by("scheduled_for", "pk").values_list("pk", flat=True):
        try:
            with transaction.atomic():
                request = _open(request_id, Status.SCHEDULED)
                _apply(request, actor_ref=request.requested_by, reason="its time has come")
        except (BadValue, UnknownFlag) as error:
            # Or somebody else has decided it since it was read; then it is no longer scheduled.
            _suspend_still_open(request_id, str(error))
        else:
            applied += request.status == Status.APPLIED
    return applied


def _go_ahead(request: ChangeRequest, *, actor_ref: str, reason: str) -> None:
    if request.scheduled_for is None or request.scheduled_for <= timezone.now():
        _apply(request, actor_ref=actor_ref, reason=reason)
        return
    request.decide(Status.SCHEDULED, actor_ref=actor_ref, at=timezone.now(), reason=reason)
    time = request.scheduled_for.isoformat(timespec="seconds")
    _record(request, actions.CHANGE_SCHEDULED, actor_ref, scheduled_for=time)


def _apply(request: ChangeRequest, *, actor_ref: str, reason: str) -> None:
    """Makes the change, or suspends it when the flag is no longer as it was when the change was asked for."""
    row = row_locked(request.key)
    if row.state() != request.asked_state:
        _suspend(request, actor_ref, "the flag was changed meanwhile")
        return
    edit_check(request.key, request.reason)
    request.emergency = len(request.approvals) < settings.FLAG_APPROVALS and request.status == Status.PENDING
    # Decided first: the write below suspends whatever is still open for this flag.
    request.decide(Status.APPLIED, actor_ref=actor_ref, at=timezone.now(), reason=reason)
    by: dict[str, Any] = {"actor_ref": request.requested_by, "reason": request.reason, "source": SOURCE}
    if "rollout_bp" in request.change:
        share_write(key=request.key, rollout_bp=request.change["rollout_bp"], **by)
    elif "guarded" in request.change:
        rollout_begin(key=request.key, hold_seconds=request.change["guarded"], **by)
    else:
        flag_write(key=request.key, value=registered(request.key).check(request.change["value"]), **by)
    _record(request, actions.CHANGE_APPLIED, actor_ref, emergency=request.emergency, reason=reason)


def _suspend(request: ChangeRequest, actor_ref: str, reason: str) -> None:
    request.decide(Status.SUSPENDED, actor_ref=actor_ref, at=timezone.now(), reason=reason[:500])
    _record(request, actions.CHANGE_SUSPENDED, actor_ref, reason=reason[:500])


def _suspend_still_open(request_id: int, reason: str) -> None:
    with transaction.atomic():
        request = ChangeRequest.objects.select_for_update().get(pk=request_id)
        if request.status == Status.SCHEDULED:
            _suspend(request, "", reason)


def _close(request_id: int, status: str, kind: str, actor_ref: str, reason: str) -> None:
    reason = reason_required(reason)
    with transaction.atomic():
        request = _open(request_id, *ChangeRequest.OPEN)
        request.decide(status, actor_ref=actor_ref, at=timezone.now(), reason=reason)
        _record(request, kind, actor_ref, reason=reason)


def _open(request_id: int, *statuses: str) -> ChangeRequest:
    """The request, locked, and before it the flags: an edit takes them in this order too. Raises NotPossible."""
    key = ChangeRequest.objects.filter(pk=request_id).values_list("key", flat=True).first()
    if key is None:
        raise NotPossible("there is no such request")
    row_locked(key)
    request = ChangeRequest.objects.select_for_update().get(pk=request_id)
    if request.status not in statuses:
        raise NotPossible(f"this request is {request.get_status_display()}; nothing more can be done with it")
    return request


def _record(request: ChangeRequest, kind: str, actor_ref: str, **facts: Any) -> None:
    event_record(
        kind=kind, stream="flags", actor_ref=actor_ref, facts={"key": request.key, "request": request.pk, **facts}
    )
