"""Changes of users, groups and permissions go on record, from wherever they come: admin, commands, shell.

Which fields changed is told, never the values of names, e-mail addresses and passwords. What sends no signal is in
docs/audit-coverage.md, and what of it is recorded all the same in audit/bulk.py.
"""

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from django.contrib.auth.hashers import is_password_usable
from django.contrib.auth.models import Group, Permission, User
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_save, pre_delete, pre_save
from django.dispatch import receiver

from audit import actions
from audit.actors import actor_current
from audit.selectors import subject_ref_held
from audit.services import event_record, subject_ref_of

STREAM = "accounts"
# The sign-in itself is an event.
UNTOLD = frozenset({"id", "last_login"})
BOOLEANS = ("is_active", "is_staff", "is_superuser")
# Before a removal, because afterwards nobody can tell who was a member; after an addition, which names the new ones.
RECORDED = {"post_add": "added", "pre_remove": "removed", "pre_clear": "removed"}
# An event's body is bounded; a mass change is given by its count and its first members.
LISTED = 200


def saved_atomically(model: type[models.Model]) -> None:
    """A row of this model and its event stand or fall together.

    Django commits a row before it sends post_save, unless the caller holds a transaction: `user.save()` in a shell, or
    `changepassword`, would leave a change without its event.
    """
    save = model.save

    @wraps(save)
    def atomic_save(self: models.Model, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(savepoint=False):
            save(self, *args, **kwargs)

    model.save = atomic_save  # type: ignore[method-assign]


for recorded_model in (User, Group):
    saved_atomically(recorded_model)


def state_remember(instance: models.Model, *, raw: bool, update_fields: Collection[str] | None) -> None:
    """For pre_save: keeps what the row holds now, of the fields that may change."""
    vars(instance)["_from_fixture"] = raw
    names = [field.name for field in instance._meta.concrete_fields if not field.primary_key]
    told = [name for name in names if name not in UNTOLD and (update_fields is None or name in update_fields)]
    vars(instance)["_state_before"] = None if raw or not told else _state(instance, told)


def state_changes(instance: models.Model) -> dict[str, tuple[Any, Any]]:
    """For post_save: the fields whose value in the database is not what it was, with old and new."""
    before = vars(instance).pop("_state_before", None)
    if not before:
        return {}
    after = _state(instance, list(before)) or before
    return {name: (old, after[name]) for name, old in before.items() if after[name] != old}


def _state(instance: models.Model, names: list[str]) -> dict[str, Any] | None:
    # Read back rather than taken from the instance, which may hold expressions.
    rows = type(instance)._default_manager.select_for_update().filter(pk=instance.pk)
    return rows.values(*names).first()


def _record(kind: str, **facts: Any) -> None:
    actor = actor_current()
    event_record(kind=kind, stream=STREAM, actor_ref=actor.ref, facts={**facts, "source": actor.source})


# Users


@receiver(pre_save, sender=User)
@receiver(pre_save, sender=Group)
def account_remember(
    sender: Any, instance: User | Group, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    state_remember(instance, raw=raw, update_fields=update_fields)


@receiver(post_save, sender=User)
def user_record(sender: Any, instance: User, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    if created:
        user_made_record(instance)
    elif changes := state_changes(instance):
        user_changed_record(instance, changes)


def user_made_record(user: User) -> None:
    standing = {name: bool(getattr(user, name)) for name in BOOLEANS}
    usable = is_password_usable(user.password)
    _record(actions.USER_CREATED, for_ref=subject_ref_of(user), password_usable=usable, **standing)


def user_changed_record(user: User, changes: dict[str, tuple[Any, Any]]) -> None:
    """`changes` are old and new by field."""
    flags = {name: {"old": old, "new": new} for name, (old, new) in changes.items() if name in BOOLEANS}
    if "password" in changes:
        old, new = (is_password_usable(value) for value in changes["password"])
        if old != new:
            flags["password_usable"] = {"old": old, "new": new}
    _record(actions.USER_CHANGED, for_ref=subject_ref_of(user), fields=sorted(changes), flags=flags)


@receiver(pre_delete, sender=User)
def user_deletion_record(sender: Any, instance: User, **kwargs: Any) -> None:
    # Before: the pseudonym goes with the user.
    _record(actions.USER_DELETED, for_ref=subject_ref_held(instance.pk))


# Groups


@receiver(post_save, sender=Group)
def group_record(sender: Any, instance: Group, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    if created:
        _record(actions.GROUP_CREATED, group=group_ref(instance))
    elif changes := state_changes(instance):
        _record(actions.GROUP_CHANGED, group=group_ref(instance), fields=sorted(changes))


@receiver(pre_delete, sender=Group)
def group_deletion_record(sender: Any, instance: Group, **kwargs: Any) -> None:
    permissions = _listed(list(instance.permissions.all()), permission_ref)
    _record(
        actions.GROUP_DELETED,
        group=group_ref(instance),
        permissions=permissions,
        members=instance.user_set.count(),
    )


@receiver(pre_delete, sender=Permission)
def permission_deletion_record(sender: Any, instance: Permission, **kwargs: Any) -> None:
    _record(
        actions.PERMISSION_DELETED,
        permission=permission_ref(instance),
        groups=_listed(list(instance.group_set.all()), group_ref),
        users=instance.user_set.count(),
    )


# Who is in which group, and who may do what


@receiver(m2m_changed, sender=User.groups.through)
def user_groups_record(sender: Any, **signal: Any) -> None:
    for user, groups in _pairs("groups", **signal):
        _record(
            actions.USER_GROUPS_CHANGED,
            for_ref=subject_ref_of(user),
            change=RECORDED[signal["action"]],
            groups=_listed(groups, group_ref),
        )


@receiver(m2m_changed, sender=User.user_permissions.through)
def user_permissions_record(sender: Any, **signal: Any) -> None:
    for user, permissions in _pairs("user_permissions", **signal):
        _record(
            actions.USER_PERMISSIONS_CHANGED,
            for_ref=subject_ref_of(user),
            change=RECORDED[signal["action"]],
            permissions=_listed(permissions, permission_ref),
        )


@receiver(m2m_changed, sender=Group.permissions.through)
def group_permissions_record(sender: Any, **signal: Any) -> None:
    for group, permissions in _pairs("permissions", **signal):
        _record(
            actions.GROUP_PERMISSIONS_CHANGED,
            group=group_ref(group),
            change=RECORDED[signal["action"]],
            permissions=_listed(permissions, permission_ref),
        )


def _pairs(
    relation: str, *, instance: Any, action: str, reverse: bool, model: Any, pk_set: set[int] | None, **kwargs: Any
) -> list[tuple[Any, list[Any]]]:
    """The holders touched, each with what of its own the change names (all of it, for a clear)."""
    if action not in RECORDED or vars(instance).get("_from_fixture"):
        return []
    if reverse:
        holders = model._default_manager.filter(**{relation: instance})
        holders = holders if pk_set is None else holders.filter(pk__in=pk_set)
        return [(holder, [instance]) for holder in holders.order_by("pk")]
    held = getattr(instance, relation).order_by("pk")
    found = list(held if pk_set is None else held.filter(pk__in=pk_set))
    return [(instance, found)] if found else []


def _listed(rows: list[Any], ref: Callable[[Any], str]) -> dict[str, Any]:
    return {"count": len(rows), "listed": [ref(row) for row in rows[:LISTED]]}


def group_ref(group: Group) -> str:
    # As records of cohorts name it; its name is an administrator's free text.
    return f"group:{group.pk}"


def permission_ref(permission: Permission) -> str:
    """As code asks for it: app_label.codename."""
    app_label, _ = permission.content_type.natural_key()
    return f"{app_label}.{permission.codename}"
