"""Putting the data keys under the operator's newest key, so that an older one may leave CONTENT_KEYS."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count

from audit import actions, content
from audit.keys import key_context
from audit.models import ContentKey
from audit.services import event_record

BATCH = 500


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """`rows` data keys are now under `to`; `left` says how many are under which other key after the run."""

    to: str
    rows: int
    left: dict[str, int]


def keys_rewrap(*, actor_ref: str, source: str, progress: Callable[[int, int | None], None] | None = None) -> Rewrapped:
    """Wraps every data key anew whose wrapping key is not the newest, a batch a transaction with its event.

    Each row is changed only if it is what was read, so that turns, a purge and a second run may go on meanwhile. What
    CONTENT_KEYS has no key for, or has another key for, is left and counted.
    """
    to = content.keyring().active
    older = ContentKey.objects.exclude(wrapped_by=to)
    total = older.count()
    done = last = 0
    while rows := list(older.filter(pk__gt=last).order_by("pk")[:BATCH]):
        last = rows[-1].pk
        done += _batch_rewrap(rows, actor_ref, source)
        if progress:
            progress(done, total)
    counted = older.order_by().values_list("wrapped_by").annotate(keys=Count("pk"))
    return Rewrapped(to, done, dict(counted))


def _batch_rewrap(rows: list[ContentKey], actor_ref: str, source: str) -> int:
    ring = content.keyring()
    done: Counter[str] = Counter()
    with transaction.atomic():
        for row in rows:
            context = key_context(row.subject_ref, row.day)
            try:
                key = content.key_unwrap(bytes(row.wrapped), row.wrapped_by, context)
            except content.ContentUnreadable:
                continue
            same = ContentKey.objects.filter(pk=row.pk, wrapped_by=row.wrapped_by, wrapped=row.wrapped)
            wrapped = content.seal(key, ring.keys[ring.active], context)
            done[row.wrapped_by] += same.update(wrapped=wrapped, wrapped_by=ring.active)
        if done.total():
            facts = {"from": dict(+done), "to": ring.active, "rows": done.total(), "source": source}
            event_record(kind=actions.KEYS_ROTATED, stream="retention", actor_ref=actor_ref, facts=facts)
    return done.total()
