"""Membership of a cohort changes past save(): the through tables are written directly."""

from typing import Any

from django.contrib.auth.models import Group, User
from django.db.models.signals import m2m_changed
from django.dispatch import receiver

from audit.services import subject_ref_of
from flags.models import Flag, change_record

RECORDED = frozenset({"post_add", "post_remove", "pre_clear"})
# An event's body is bounded; a mass change is given by its count and its first members.
LISTED = 200


@receiver(m2m_changed, sender=Flag.users.through)
@receiver(m2m_changed, sender=Flag.groups.through)
def members_record(
    sender: Any, instance: Any, action: str, reverse: bool, pk_set: set[int] | None, **kwargs: Any
) -> None:
    if action not in RECORDED:
        return
    relation = "users" if sender is Flag.users.through else "groups"
    flags = [instance] if not reverse else _flags_of(instance, relation, pk_set)
    for flag in flags:
        if reverse:
            members = [instance]
        elif pk_set is None:
            members = list(getattr(flag, relation).all())
        else:
            members = list((User if relation == "users" else Group).objects.filter(pk__in=pk_set))
        if members:
            change = {"count": len(members), "members": [_name(member) for member in members[:LISTED]]}
            added = action == "post_add"
            change_record(
                flag.name,
                None if added else {f"{relation}_removed": change},
                {f"{relation}_added": change} if added else None,
            )


def _flags_of(member: Any, relation: str, pk_set: set[int] | None) -> list[Flag]:
    flags = Flag.objects.filter(**{relation: member}) if pk_set is None else Flag.objects.filter(pk__in=pk_set)
    return list(flags)


def _name(member: Any) -> str:
    return subject_ref_of(member) if isinstance(member, User) else f"group:{member.pk}"
