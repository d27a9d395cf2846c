"""Guarded rollouts: begun, looked at, cancelled, acknowledged. flags.rollouts decides; here it is done, on record."""

from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from audit import actions
from audit.services import event_record
from flags import rollouts
from flags.changes import ROLLOUT, acting
from flags.guarded import GuardedRollout
from flags.models import Flag
from flags.registry import BadValue, registered
from flags.rollouts import Action, Arm, Measured, Verdict
from flags.services import ReasonRequired, change_check, row_locked

log = structlog.get_logger(__name__)
State = GuardedRollout.State
HOLD_LIMITS = (60, 7 * 24 * 3600)
# An hour of looks, for the chart.
LOOKS_KEPT = 360


class NotPossible(BadValue):
    """The rollout or the request is not in a state for that; the text says what can be done."""


def rollout_start(
    *, key: str, actor_ref: str, reason: str, source: str, hold_seconds: int = rollouts.HOLD_SECONDS
) -> GuardedRollout:
    """Puts a cohort flag on its first stage; each stage is held for `hold_seconds` of traffic.

    Raises UnknownFlag, BadValue for a flag that cannot be rolled out, or what change_check raises.
    """
    start_check(key, hold_seconds)
    change_check(key, reason)
    return rollout_begin(key=key, actor_ref=actor_ref, reason=reason, source=source, hold_seconds=hold_seconds)


def start_check(key: str, hold_seconds: int) -> None:
    if registered(key).type != "cohort":
        raise BadValue(f"{key} is not a cohort flag; only those can be rolled out step by step")
    low, high = HOLD_LIMITS
    if isinstance(hold_seconds, bool) or not low <= hold_seconds <= high:
        raise BadValue(f"expected a hold from {low} to {high} seconds")


def rollout_begin(*, key: str, actor_ref: str, reason: str, source: str, hold_seconds: int) -> GuardedRollout:
    """Past the gate: for a start that was approved."""
    reason = reason_required(reason)
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        flag = row_locked(key)
        assert isinstance(flag, Flag)
        if GuardedRollout.objects.filter(key=key, state=State.RUNNING).exists():
            raise NotPossible(f"{key} is being rolled out already; cancel that rollout first")
        if flag.everyone or (flag.everyone is None and flag.rollout_bp == rollouts.LAST):
            raise NotPossible(f"{key} is on for everyone already; switch it off first, or leave it")
        stage = rollouts.first_stage(0 if flag.everyone is False else flag.rollout_bp)
        flag.everyone, flag.rollout_bp = None, stage
        flag.save()
        rollout = GuardedRollout.objects.create(
            key=key, stage_bp=stage, hold_seconds=hold_seconds, started_by=actor_ref, reason=reason
        )
        _record(
            rollout,
            actions.ROLLOUT_STARTED,
            actor_ref,
            stage_bp=stage,
            hold_seconds=hold_seconds,
            reason=reason,
            source=source,
        )
    return rollout


def rollout_look(*, rollout_id: int, measured: Measured, now: datetime | None = None) -> Action | None:
    """One look of the leader: keeps what was seen, and advances, completes or trips.

    None when there was nothing to do: the rollout has ended, or another leader has only just looked.
    """
    now = now or timezone.now()
    with transaction.atomic(), acting(actor_ref="", reason="", source=ROLLOUT):
        # The flags first: an edit takes them first as well.
        list(Flag.objects.select_for_update().order_by("pk").values_list("pk"))
        rollout = GuardedRollout.objects.select_for_update().get(pk=rollout_id)
        elapsed = (now - (rollout.looked_at or rollout.started_at)).total_seconds()
        if rollout.state != State.RUNNING or (rollout.looked_at and elapsed < rollouts.LOOK_SECONDS / 2):
            return None
        verdict = rollouts.decide(rollout.progress, measured, elapsed=elapsed)
        rollout.looks = [*rollout.looks, _look(rollout, measured, verdict, now)][-LOOKS_KEPT:]
        rollout.looked_at = now
        rollout.progress_set(verdict.progress)
        rollout.save()
        return _follow(rollout, verdict, now)


def _follow(rollout: GuardedRollout, verdict: Verdict, now: datetime) -> Action:
    if verdict.action == "advance":
        _advance(rollout, verdict, now)
    elif verdict.action == "complete":
        rollout.end(State.COMPLETED, verdict.reason, at=now)
        _record(rollout, actions.ROLLOUT_COMPLETED, "", **_arms(rollout))
    elif verdict.action == "trip":
        _trip(rollout, verdict, now)
    return verdict.action


def _advance(rollout: GuardedRollout, verdict: Verdict, now: datetime) -> None:
    before, after = rollout.stage_bp, rollouts.next_stage(rollout.stage_bp)
    if not _share_move(rollout, after, verdict.reason, now):
        return
    _record(rollout, actions.ROLLOUT_ADVANCED, "", from_bp=before, to_bp=after, **_arms(rollout))
    rollout.stage_bp, rollout.stage_started_at = after, now
    rollout.progress_set(rollouts.Progress(after, rollout.hold_seconds))
    rollout.save()


def _trip(rollout: GuardedRollout, verdict: Verdict, now: datetime) -> None:
    if not _share_move(rollout, 0, verdict.reason, now):
        return
    rollout.end(State.TRIPPED, verdict.reason, at=now)
    _record(
        rollout,
        actions.ROLLOUT_TRIPPED,
        "",
        stage_bp=rollout.stage_bp,
        reason=rollout.end_reason,
        look=rollout.looks[-1],
        **_arms(rollout),
    )
    key, reason = rollout.key, rollout.end_reason
    transaction.on_commit(lambda: log.warning("rollout.tripped", key=key, reason=reason))


def _share_move(rollout: GuardedRollout, share_bp: int, reason: str, now: datetime) -> bool:
    """Sets the flag's share if it still is what the rollout made it; an edit past our own write paths counts too."""
    flag = Flag.objects.filter(name=rollout.key, everyone=None, rollout_bp=rollout.stage_bp)
    with acting(actor_ref="", reason=f"guarded rollout {rollout.pk}: {reason}"[:500], source=ROLLOUT):
        if flag.update(rollout_bp=share_bp):
            return True
    rollout.end(State.SUPERSEDED, "the flag was edited", at=now)
    _record(rollout, actions.ROLLOUT_SUPERSEDED, "", reason=rollout.end_reason, source="unknown")
    return False


def rollout_cancel(*, rollout_id: int, actor_ref: str, reason: str, source: str) -> None:
    """Ends a running rollout and takes the share back to 0 %. To keep the share, edit the flag instead.

    Raises NotPossible or ReasonRequired.
    """
    reason, now = reason_required(reason), timezone.now()
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        rollout = _locked(rollout_id)
        if rollout.state != State.RUNNING:
            raise NotPossible(f"this rollout is {rollout.get_state_display()}; there is nothing to cancel")
        # Ended first: what follows would pass for an edit that ends it.
        rollout.end(State.CANCELLED, reason, at=now)
        Flag.objects.filter(name=rollout.key, everyone=None, rollout_bp=rollout.stage_bp).update(rollout_bp=0)
        _record(rollout, actions.ROLLOUT_CANCELLED, actor_ref, stage_bp=rollout.stage_bp, reason=reason, source=source)


def rollout_acknowledge(*, rollout_id: int, actor_ref: str, reason: str, source: str) -> None:
    """A person has seen the trip, and the flag can be changed again. Raises NotPossible or ReasonRequired."""
    reason = reason_required(reason)
    with transaction.atomic():
        rollout = _locked(rollout_id)
        if not rollout.is_locking:
            raise NotPossible("only a tripped rollout that nobody has acknowledged yet can be acknowledged")
        rollout.acknowledged_at, rollout.acknowledged_by = timezone.now(), actor_ref
        rollout.acknowledged_reason = reason
        rollout.save()
        _record(rollout, actions.ROLLOUT_ACKNOWLEDGED, actor_ref, reason=reason, source=source)


def rollouts_running() -> list[GuardedRollout]:
    return list(GuardedRollout.objects.filter(state=State.RUNNING).order_by("pk"))


def rollouts_open() -> list[GuardedRollout]:
    """Those that run, and those that lock their flag."""
    tripped = Q(state=State.TRIPPED, acknowledged_at=None)
    return list(GuardedRollout.objects.filter(tripped | Q(state=State.RUNNING)).order_by("pk"))


def reason_required(reason: str) -> str:
    reason = reason.strip()[:500]
    if not reason:
        raise ReasonRequired("say why: the reason goes on record")
    return reason


def _locked(rollout_id: int) -> GuardedRollout:
    list(Flag.objects.select_for_update().order_by("pk").values_list("pk"))
    rollout = GuardedRollout.objects.select_for_update().filter(pk=rollout_id).first()
    if rollout is None:
        raise NotPossible("there is no such rollout")
    return rollout


def _look(rollout: GuardedRollout, measured: Measured, verdict: Verdict, now: datetime) -> dict[str, Any]:
    window = measured.window
    return {
        "at": now.isoformat(timespec="seconds"),
        "stage_bp": rollout.stage_bp,
        "action": verdict.action,
        "reason": verdict.reason,
        "canary": _counts(window.canary),
        "control": _counts(window.control),
    }


def _counts(arm: Arm) -> list[int]:
    return [arm.turns, arm.errors]


def _arms(rollout: GuardedRollout) -> dict[str, list[int]]:
    """[turns, errors] of the stage's arms."""
    return {"canary": _counts(rollout.totals.canary), "control": _counts(rollout.totals.control)}


def _record(rollout: GuardedRollout, kind: str, actor_ref: str, **facts: Any) -> None:
    event_record(
        kind=kind, stream="flags", actor_ref=actor_ref, facts={"key": rollout.key, "rollout": rollout.pk, **facts}
    )
