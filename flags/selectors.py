import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from django import db
from django.contrib.auth.models import AbstractUser

from audit.services import subject_ref_of
from flags.models import Flag, FlagsEpoch, Setting, Switch
from flags.registry import REGISTRY, BadValue, Value
from flags.snapshot import CohortRule, Rules, Snapshot, SourceAway, Subject, current, pins

log = structlog.get_logger(__name__)
T = TypeVar("T")


def _reading(read: Callable[[], T]) -> T:
    try:
        return read()
    except db.Error as error:
        raise SourceAway(type(error).__name__) from error


def epoch_read() -> int:
    return _reading(lambda: FlagsEpoch.objects.values_list("epoch", flat=True).filter(pk=1).first() or 0)


def rules_read() -> Rules:
    return _reading(lambda: Rules(_cohorts(), _values()))


def picture_read() -> Snapshot:
    """The rows as they are now, for whoever looks at a change just made; with the database away what is in force."""
    try:
        return Snapshot(epoch_read(), time.monotonic(), pins(), rules_read())
    except SourceAway:
        return current()


def _cohorts() -> dict[str, CohortRule]:
    users: dict[int, set[int]] = {}
    groups: dict[int, set[int]] = {}
    for flag_id, user_id in Flag.users.through.objects.values_list("flag_id", "user_id"):
        users.setdefault(flag_id, set()).add(user_id)
    for flag_id, group_id in Flag.groups.through.objects.values_list("flag_id", "group_id"):
        groups.setdefault(flag_id, set()).add(group_id)
    return {
        flag.name: CohortRule(
            flag.everyone,
            frozenset(users.get(flag.pk, ())),
            frozenset(groups.get(flag.pk, ())),
            flag.rollout_bp,
            flag.salt,
        )
        for flag in Flag.objects.all()
    }


def _values() -> dict[str, Value]:
    values: dict[str, Value] = dict(Switch.objects.values_list("name", "active"))
    for key, value in Setting.objects.values_list("key", "value_json"):
        entry = REGISTRY.get(key)
        if entry is None or entry.boot or value is None:
            continue
        try:
            values[key] = entry.check(value)
        except BadValue:
            # Written past the admin, by SQL: the default is safer than a value the code never expects.
            log.warning("flags.bad_value", key=key)
    return values


def subject_of(user: AbstractUser | Any) -> Subject:
    return Subject(subject_ref_of(user), user.pk, frozenset(user.groups.values_list("pk", flat=True)))
