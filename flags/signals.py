"""Membership of a cohort changes past save(): the through tables are written directly."""

from typing import Any

from django.contrib.auth.models import User
from django.db.models.signals import m2m_changed
from django.dispatch import receiver

from audit.services import subject_ref_of
from flags.guarded import lock_check
from flags.models import Flag, change_record

# Before a removal, because afterwards nobody can tell who was a member; after an addition, which names the new ones.
RECORDED = frozenset({"post_add", "pre_remove", "pre_clear"})
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
    for flag, members in _pairs(relation, instance, reverse, pk_set):
        if members:
            # Listing somebody turns a flag on for them, tripped or not.
            lock_check(flag.name)
            change = {"count": len(members), "members": [_name(member) for member in members[:LISTED]]}
            added = action == "post_add"
            change_record(
                flag.name,
                None if added else {f"{relation}_removed": change},
                {f"{relation}_added": change} if added else None,
            )


def _pairs(relation: str, instance: Any, reverse: bool, pk_set: set[int] | None) -> list[tuple[Flag, list[Any]]]:
    """The flags touched, each with those of its present members that the change names (all, for a clear)."""
    if reverse:
        flags = Flag.objects.filter(**{relation: instance})
        return [(flag, [instance]) for flag in (flags if pk_set is None else flags.filter(pk__in=pk_set))]
    members = getattr(instance, relation).all()
    return [(instance, list(members if pk_set is None else members.filter(pk__in=pk_set)))]


def _name(member: Any) -> str:
    return subject_ref_of(member) if isinstance(member, User) else f"group:{member.pk}"
