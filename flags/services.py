import time

from django.db import transaction
from django.utils import timezone

from flags.changes import acting
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
    """Sets a flag for everyone, or a setting. Raises UnknownFlag, BadValue, Pinned or ReasonRequired."""
    entry = registered(key)
    value = entry.check(value)
    change_check(key, reason)
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        row: RecordedModel
        if entry.type == "cohort":
            row, _ = Flag.objects.select_for_update().get_or_create(name=key)
            row.everyone = bool(value)
        elif entry.type == "switch":
            row, _ = Switch.objects.select_for_update().get_or_create(name=key)
            row.active = bool(value)
        else:
            row, _ = Setting.objects.select_for_update().get_or_create(key=key)
            row.value_json = value
        row.save()


def flag_roll_out(*, key: str, rollout_bp: int, actor_ref: str, reason: str, source: str) -> None:
    """Opens a cohort flag to a share of all subjects, in hundredths of a percent; the listed keep it.

    Raises UnknownFlag, BadValue, Pinned or ReasonRequired.
    """
    if registered(key).type != "cohort":
        raise BadValue(f"{key} has no cohorts; set it on or off instead")
    if not 0 <= rollout_bp <= 10_000:
        raise BadValue("expected a share from 0 to 100 percent")
    change_check(key, reason)
    with transaction.atomic(), acting(actor_ref=actor_ref, reason=reason, source=source):
        row, _ = Flag.objects.select_for_update().get_or_create(name=key)
        row.everyone = None
        row.rollout_bp = rollout_bp
        row.save()


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
    """Raises Pinned or ReasonRequired when the flag may not be changed so."""
    if key in pins():
        raise Pinned(f"{key} is pinned by the environment variable {key}; change it there and restart")
    if registered(key).boot:
        raise Pinned(f"{key} is read when a process starts; set the variable {key} and restart")
    if registered(key).kind == "kill-switch" and not reason.strip():
        raise ReasonRequired(f"{key} is a kill switch: a reason is required")
