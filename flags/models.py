import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db import models, transaction
from django.db.models import F
from django.http import HttpRequest
from waffle.models import AbstractBaseSwitch, AbstractUserFlag

from audit import actions
from audit.services import event_record
from flags import snapshot
from flags.changes import current_change
from flags.guarded import guards_settle, lock_check
from flags.registry import REGISTRY, BadValue


def new_salt() -> str:
    return secrets.token_hex(8)


class FlagsEpoch(models.Model):
    """One row. Every write path of every flag advances it in its own transaction."""

    epoch = models.BigIntegerField(default=0)

    class Meta:
        db_table = "flags_epoch"

    def __str__(self) -> str:
        return str(self.epoch)


def epoch_advance() -> int:
    if not FlagsEpoch.objects.filter(pk=1).update(epoch=F("epoch") + 1):
        FlagsEpoch.objects.bulk_create([FlagsEpoch(pk=1)], ignore_conflicts=True)
        FlagsEpoch.objects.filter(pk=1).update(epoch=F("epoch") + 1)
    return FlagsEpoch.objects.values_list("epoch", flat=True).get(pk=1)


def change_record(key: str, old: Any, new: Any) -> None:
    """Advances the epoch and appends the audit event, in the transaction of the change itself."""
    if old == new:
        return
    change = current_change()
    facts = {
        "key": key,
        "old": old,
        "new": new,
        "reason": change.reason,
        "source": change.source,
        "epoch": epoch_advance(),
    }
    event_record(kind=actions.FLAG_CHANGED, stream="flags", actor_ref=change.actor_ref, facts=facts)


M = TypeVar("M", bound="RecordedModel")


@contextmanager
def recording(model: type["RecordedModel"]) -> Iterator[None]:
    """Puts on record whatever the block changes in the model's rows, by comparing all of them before and after.

    There are a dozen rows; comparing them covers every write path alike, renaming and conflict clauses included.
    """
    with transaction.atomic():
        before = _states(model)
        yield
        after = _states(model)
        for key in sorted(before.keys() | after.keys()):
            if before.get(key) != after.get(key):
                lock_check(key)
                guards_settle(key)
                change_record(key, before.get(key), after.get(key))


def _states(model: type["RecordedModel"]) -> dict[str, Any]:
    # In one order, so that two edits queue instead of waiting for each other.
    return {row.change_key(): row.state() for row in model._default_manager.select_for_update().order_by("pk")}


class RecordedQuerySet(models.QuerySet[M]):
    """Bulk writes go on record as single ones do: old and new of each row, in the same transaction."""

    def update(self, **kwargs: Any) -> int:
        with recording(self.model):
            return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        with recording(self.model):
            return super().delete()

    # Without it a manager would offer delete() for the whole table.
    delete.alters_data = delete.queryset_only = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Any, *args: Any, **kwargs: Any) -> list[M]:
        with recording(self.model):
            return super().bulk_create(objs, *args, **kwargs)


class RecordedModel(models.Model):
    class Meta:
        abstract = True

    def change_key(self) -> str:
        raise TypeError(f"{type(self).__name__} does not say which flag it is")

    def state(self) -> dict[str, Any]:
        raise TypeError(f"{type(self).__name__} does not say what its state is")

    def save(self, *args: Any, **kwargs: Any) -> None:
        with recording(type(self)):
            super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        with recording(type(self)):
            return super().delete(*args, **kwargs)


def _validate_key(key: str, types: tuple[str, ...]) -> None:
    entry = REGISTRY.get(key)
    if entry is None or entry.type not in types:
        raise ValidationError(f"{key} is not a registered {' or '.join(types)}.")


class Flag(RecordedModel, AbstractUserFlag):
    """A cohort flag. waffle's random percentage, its cookie and its cache are not used: see docs/decisions/."""

    rollout_bp = models.PositiveIntegerField(
        "rollout share",
        default=0,
        validators=[MaxValueValidator(10_000)],
        help_text="Share of subjects in hundredths of a percent, 0 to 10000; counts when Everyone is Unknown.",
    )
    salt = models.CharField(max_length=32, default=new_salt, help_text="Changing it draws all cohorts anew.")

    objects = RecordedQuerySet["Flag"].as_manager()  # type: ignore[misc,assignment]

    def change_key(self) -> str:
        return self.name

    def state(self) -> dict[str, Any]:
        return {"everyone": self.everyone, "rollout_bp": self.rollout_bp, "salt": self.salt}

    def clean(self) -> None:
        _validate_key(self.name, ("cohort",))

    def is_active_for_user(self, user: Any) -> bool | None:
        return snapshot.current().boolean(self.name, _subject(user))

    def is_active(self, request: HttpRequest, read_only: bool = False) -> bool | None:
        return self.is_active_for_user(request.user)


def _subject(user: Any) -> snapshot.Subject | None:
    from flags.selectors import subject_of

    return subject_of(user) if user.is_authenticated else None


class Switch(RecordedModel, AbstractBaseSwitch):
    objects = RecordedQuerySet["Switch"].as_manager()  # type: ignore[misc,assignment]

    class Meta(AbstractBaseSwitch.Meta):
        abstract = False
        verbose_name_plural = "Switches"  # type: ignore[assignment]

    def change_key(self) -> str:
        return self.name

    def state(self) -> dict[str, Any]:
        return {"active": self.active}

    def is_active(self) -> bool:
        return snapshot.current().boolean(self.name)

    def clean(self) -> None:
        _validate_key(self.name, ("switch",))


class Setting(RecordedModel):
    key = models.CharField(max_length=100, primary_key=True)
    value_json = models.JSONField(
        "value", null=True, blank=True, help_text="A JSON value; empty follows the registered default."
    )
    version = models.PositiveIntegerField(default=0, editable=False)
    modified = models.DateTimeField(auto_now=True)

    objects = RecordedQuerySet["Setting"].as_manager()

    def __str__(self) -> str:
        return self.key

    def change_key(self) -> str:
        return self.key

    def state(self) -> dict[str, Any]:
        # Audit bodies hold no floats; a share is written as text.
        value = str(self.value_json) if isinstance(self.value_json, float) else self.value_json
        return {"value": value}

    def clean(self) -> None:
        entry = REGISTRY.get(self.key)
        if entry is None or entry.type not in ("choice", "number"):
            raise ValidationError(f"{self.key} is not a registered setting.")
        if self.value_json is not None:
            try:
                self.value_json = entry.check(self.value_json)
            except BadValue as error:
                raise ValidationError({"value_json": str(error)}) from None

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.version += 1
        super().save(*args, **kwargs)


class FlagUse(models.Model):
    """When code last asked for a flag. Not a change of it: nothing here is recorded or advances the epoch."""

    key = models.CharField(max_length=100, primary_key=True)
    evaluated_at = models.DateTimeField()

    class Meta:
        db_table = "flags_use"

    def __str__(self) -> str:
        return self.key
