import uuid
from typing import Any

from django.db import transaction
from django.db.models import F

from audit import actions
from audit.services import event_record
from chat.models import Session
from chat.selectors import conversation_of
from onesource.errors import NotFound


def conversation_export(*, session_id: uuid.UUID, reason: str, source: str) -> dict[str, Any]:
    """All retained turns of a session, in plain text: {session_id, created_at, last_turn_at, turns}.

    The event is committed before anything is returned: no event, no export. Raises NotFound for a session that does not
    exist or was deleted, and Gone when its texts cannot be read.
    """
    with transaction.atomic():
        mine = Session.objects.filter(pk=session_id, deleted_at=None)
        if not mine.update(event_count=F("event_count") + 1):
            raise NotFound("There is no such session, or it was deleted.", code="session_not_found")
        session = mine.get()
        turns = list(conversation_of(session, session.turn_count))
        event_record(
            kind=actions.EXPORT_MADE,
            stream=f"session:{session_id}",
            stream_seq=session.event_count,
            actor_ref="",
            facts={
                "what": "conversation",
                "session_id": str(session_id),
                "turns": len(turns),
                "reason": reason,
                "source": source,
            },
        )
    return {
        "session_id": str(session_id),
        "created_at": session.created_at,
        "last_turn_at": session.last_turn_at,
        "turns": turns,
    }
