"""Changes of a flag that take their time: guarded rollouts and requested changes, and what an edit means to them.

Locks are taken in one order everywhere: the rows of the flags, then these, then the epoch.
"""

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from audit import actions
from audit.services import event_record
from flags.changes import ROLLOUT, current_change
from flags.registry import BadValue
from flags.rollouts import HOLD_SECONDS, Arm, Arms, Progress


class Locked(BadValue):
    """A rollout of the flag tripped, and nobody has acknowledged that."""


class GuardedRollout(models.Model):
    """A cohort flag's way from 1 to 100 %, step by step as long as its canary does no worse than its control."""

    class State(models.TextChoices):
        RUNNING = "running"
        TRIPPED = "tripped"
        COMPLETED = "completed"
        CANCELLED = "cancelled"
        SUPERSEDED = "superseded", "superseded by an edit"

    key = models.CharField("flag", max_length=100)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    stage_bp = models.PositiveIntegerField("share")
    hold_seconds = models.PositiveIntegerField(default=HOLD_SECONDS)
    started_at = models.DateTimeField(default=timezone.now)
    started_by = models.CharField(max_length=32, blank=True)
    reason = models.CharField(max_length=500)
    # Of the present stage; `held_seconds` counts only time with traffic in both arms.
    stage_started_at = models.DateTimeField(default=timezone.now)
    held_seconds = models.FloatField(default=0)
    canary_turns = models.PositiveIntegerField(default=0)
    canary_errors = models.PositiveIntegerField(default=0)
    control_turns = models.PositiveIntegerField(default=0)
    control_errors = models.PositiveIntegerField(default=0)
    suspect = models.BooleanField(default=False)
    looked_at = models.DateTimeField(null=True)
    # The last ones, oldest first: {at, stage_bp, action, reason, canary: [turns, errors], control: [turns, errors]}.
    looks = models.JSONField(default=list)
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=500, blank=True)
    acknowledged_at = models.DateTimeField(null=True)
    acknowledged_by = models.CharField(max_length=32, blank=True)
    acknowledged_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        db_table = "flags_guarded_rollout"
        # Who may change the flag may do this; who may see it may see this.
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["key"],
                condition=Q(state="running") | Q(state="tripped", acknowledged_at=None),
                name="flags_guarded_rollout_one_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.stage_bp / 100:g} % {self.state}"

    @property
    def is_locking(self) -> bool:
        return self.state == self.State.TRIPPED and self.acknowledged_at is None

    @property
    def totals(self) -> Arms:
        """Of the present stage."""
        return Arms(Arm(self.canary_turns, self.canary_errors), Arm(self.control_turns, self.control_errors))

    @property
    def progress(self) -> Progress:
        return Progress(self.stage_bp, self.hold_seconds, self.held_seconds, self.totals, self.suspect)

    def progress_set(self, progress: Progress) -> None:
        canary, control = progress.totals.canary, progress.totals.control
        self.held_seconds, self.suspect = progress.held_seconds, progress.suspect
        self.canary_turns, self.canary_errors = canary.turns, canary.errors
        self.control_turns, self.control_errors = control.turns, control.errors

    def end(self, state: str, reason: str, *, at: datetime) -> None:
        self.state, self.end_reason, self.ended_at = state, reason[:500], at
        self.save()


class ChangeRequest(models.Model):
    """A change that somebody asks for: applied when enough others approve, or at its time, unless the flag moved."""

    class Status(models.TextChoices):
        PENDING = "pending"
        SCHEDULED = "scheduled"
        APPLIED = "applied"
        REJECTED = "rejected"
        SUSPENDED = "suspended", "suspended: the flag was changed"
        CANCELLED = "cancelled"

    OPEN = (Status.PENDING, Status.SCHEDULED)

    key = models.CharField("flag or setting", max_length=100)
    # One of {"value": ...}, {"rollout_bp": 0..10000}, {"guarded": hold in seconds}.
    change = models.JSONField()
    # The flag's state that it was asked against.
    asked_state = models.JSONField()
    reason = models.CharField(max_length=500)
    requested_at = models.DateTimeField(default=timezone.now)
    requested_by = models.CharField(max_length=32, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    scheduled_for = models.DateTimeField(null=True)
    # {by, at, reason} each.
    approvals = models.JSONField(default=list)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.CharField(max_length=32, blank=True)
    decision_reason = models.CharField(max_length=500, blank=True)
    emergency = models.BooleanField("approvals bypassed", default=False)

    class Meta:
        db_table = "flags_change_request"
        default_permissions = ()
        indexes = [models.Index(fields=["scheduled_for"], condition=Q(status="scheduled"), name="flags_change_due")]

    def __str__(self) -> str:
        return f"{self.key} {self.told} {self.status}"

    @property
    def told(self) -> str:
        """The change in words."""
        if "rollout_bp" in self.change:
            return f"share {self.change['rollout_bp'] / 100:g} %"
        if "guarded" in self.change:
            return f"guarded rollout, {self.change['guarded'] / 60:g} minutes a stage"
        value = self.change["value"]
        return {True: "on for everyone", False: "off for everyone"}[value] if isinstance(value, bool) else str(value)

    def decide(self, status: str, *, actor_ref: str, at: datetime, reason: str = "") -> None:
        self.status, self.decided_by, self.decided_at = status, actor_ref, at
        self.decision_reason = reason
        self.save()


def lock_check(key: str) -> None:
    """Raises Locked while a rollout of the flag has tripped and nobody has acknowledged it."""
    tripped = GuardedRollout.objects.filter(key=key, state=GuardedRollout.State.TRIPPED, acknowledged_at=None).first()
    if tripped:
        raise Locked(
            f"{key} is locked: its guarded rollout {tripped.pk} tripped ({tripped.end_reason}). "
            "Acknowledge the trip with a reason first, in the admin under guarded rollouts"
        )


def guards_settle(key: str) -> None:
    """In the transaction of an edit: a person's edit ends a running rollout, and any edit suspends open requests."""
    change, now = current_change(), timezone.now()
    if change.source != ROLLOUT:
        running = GuardedRollout.objects.filter(key=key, state=GuardedRollout.State.RUNNING)
        for rollout in running.select_for_update():
            rollout.end(GuardedRollout.State.SUPERSEDED, "the flag was edited", at=now)
            facts = {"key": key, "rollout": rollout.pk, "reason": rollout.end_reason, "source": change.source}
            event_record(kind=actions.ROLLOUT_SUPERSEDED, stream="flags", actor_ref=change.actor_ref, facts=facts)
    requests = ChangeRequest.objects.filter(key=key, status__in=ChangeRequest.OPEN)
    for request in requests.select_for_update():
        request.decide(ChangeRequest.Status.SUSPENDED, actor_ref=change.actor_ref, at=now)
        facts = {"key": key, "request": request.pk, "reason": "the flag was changed meanwhile"}
        event_record(kind=actions.CHANGE_SUSPENDED, stream="flags", actor_ref=change.actor_ref, facts=facts)
