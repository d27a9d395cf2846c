"""What a reviewer does with a turn goes on record with the session's other events, before it has any effect."""

import uuid

from django.db import Error, transaction
from django.db.models import F

from audit.services import event_record
from chat.models import Session, Turn
from onesource.errors import Unavailable


def act_record(*, turn: Turn, kind: str, reason: str, actor_ref: str, source: str) -> uuid.UUID:
    """The uid of the event, which is committed. Raises Unavailable when it cannot be."""
    try:
        # durable: committed when the block ends, not when some caller's does.
        with transaction.atomic(durable=True):
            session = Session.objects.filter(pk=turn.session_id)
            session.update(event_count=F("event_count") + 1)
            event = event_record(
                kind=kind,
                stream=f"session:{turn.session_id}",
                stream_seq=session.values_list("event_count", flat=True).get(),
                actor_ref=actor_ref,
                facts={
                    "turn_id": str(turn.pk),
                    "session_id": str(turn.session_id),
                    "reason": reason,
                    "source": source,
                },
            )
    except Error as error:
        # Whatever the database has against it: a constraint, a missing privilege, a trigger, or that it is away.
        raise not_recorded("Nothing is shown, because it could not be recorded that you looked.") from error
    return event.uid


def not_recorded(detail: str) -> Unavailable:
    return Unavailable(f"{detail} Please try again.", code="not_recorded", retry_after=2)
