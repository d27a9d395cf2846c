import time
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from flags.changes import acting
from flags.guarded import lock_check
from flags.models import Flag, FlagUse, RecordedModel, Setting, Switch
from flags.registry import BadValue, Value, registered
from flags.snapshot import NEVER, pins, used_take

# A question of 30 days: whether a flag is still asked for.
FLUSH_SECONDS = 3600.0
_flushed: dict[str, float] = {}


class Pinned(BadValue):
    """The environment decides this flag; a change in the database would have no effect."""


class ReasonRequired(BadValue):
    pass


class ApprovalRequired(BadValue):
    """FLAG_APPROVALS is set: nobody changes a flag alone."""


def rows_ensure() -> None:
    """A row for each registered flag, at its default, so that the admin shows all of them. Existing rows stay."""
    from flags.registry import REGISTRY

    with acting(actor_ref="", reason="registered", source="migrate"):
        for key, entry in REGISTRY.items():
            if entry.type == "cohort":
                Flag.objects.get_or_create(
                    name=key, defaults={"everyone": bool(entry.default), "superusers": False, "note": entry.description}
                )
            elif entry.type == "switch":
                Switch.objects.get_or_create(
                    name=key, defaults={"active": bool(entry.default), "note": entry.description}
                )
            else:
                Setting.objects.get_or_create(key=key)


def flag_set(*, key: str, value: Value, actor_ref: str, reason: str, source: str) -> None:
    """Sets a flag for everyone, or a setting. Raises UnknownFlag, BadValue, or what change_check raises."""
    value = registered(key).check(value)
    change_check(key, reason)
    flag_write(key=key, value=value, actor_ref=actor_ref, reason=reason, source=source)


def flag_roll_out(*, key: str, rollout_bp: int, actor_ref: str, reason: str, source: str) -> None:
    """Opens a cohort flag to a share of all subjects, in hundredths of a percent; the listed keep it.

    Raises UnknownFlag, BadValue, or what change_check raises.
    """
    share_check(key, rollout_bp)
    change_check(key, reason)
    share_write(key=key, rollout_bp=rollout_bp, actor_ref=actor_ref, reason=reason, source=source)


def uses_flush() -> None:
    """Puts down when this process's code last asked for each flag: at the first use, then once an hour at most."""
    started = time.monotonic()
    due = [key for key in sorted(used_take()) if started - _flushed.get(key, NEVER) >= FLUSH_SECONDS]
    if not due:
        return
    now = timezone.now()
    uses = [FlagUse(key=key, evaluated_at=now) for key in due]
    FlagUse.objects.bulk_create(uses, update_conflicts=True, unique_fields=["key"], update_fields=["evaluated_at"])
    _flushed.update(dict.fromkeys(due, started))


def change_check(key: str, reason: str) -> None:
    """The gate of every direct edit. Raises Pinned, Locked, ReasonRequired or ApprovalRequired, all BadValues."""
    edit_check(key, reason)
    if settings.FLAG_APPROVALS:
        raise ApprovalRequired(
            f"Changes need the approval of {settings.FLAG_APPROVALS} other people here: ask for it in the admin under "
            "change requests, where an emergency can go ahead without"
        )


def edit_check(key: str, reason: str) -> None:
    """Raises Pinned, Locked or ReasonRequired when the flag may not be changed so, whoever approves."""
    if key in pins():
        raise Pinned(f"{key} is pinned by the environment variable {key}; change it there and restart")
    if registered(key).boot:
        raise Pinned(f"{key} is read when a process starts; set the variable {key} and restart")
    if registered(key).kind == "kill-switch" and not reason.strip():
        raise ReasonRequired(f"{key} is a kill switch: a reason is required")
    lock_check(key)


def share_check(key: str, rollout_bp: int) -> None:
    if registered(key).type != "cohort":
        raise BadValue(f"{key} has no cohorts; set it on or off instead")
    if isinstance(rollout_bp, bool) or not 0 <= rollout_bp <= 10_000:
        raise BadValue("expected a share from 0 to 100 percent")


def flag_write(*, key: str, value: Value, actor_ref: str, reason: str, source: str) -> None:
    """Past the gate: for changes that were approved."""
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        row = row_locked(key)
        if isinstance(row, Flag):
            row.everyone = bool(value)
        elif isinstance(row, Switch):
            row.active = bool(value)
        elif isinstance(row, Setting):
            row.value_json = value
        row.save()


def share_write(*, key: str, rollout_bp: int, actor_ref: str, reason: str, source: str) -> None:
    """Past the gate: for changes that were approved."""
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        row = row_locked(key)
        assert isinstance(row, Flag)
        row.everyone, row.rollout_bp = None, rollout_bp
        row.save()


def row_locked(key: str) -> RecordedModel:
    """The row of a flag or setting, with all rows of its table locked, as any write of one will lock them."""
    models: dict[str, type[RecordedModel]] = {"cohort": Flag, "switch": Switch}
    model = models.get(registered(key).type, Setting)
    list(model._default_manager.select_for_update().order_by("pk").values_list("pk"))
    named: dict[str, Any] = {"key" if model is Setting else "name": key}
    row, _ = model._default_manager.get_or_create(**named)
    return row
