import uuid
from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet

from audit.content import ContentUnreadable
from audit.selectors import content_read, contents_last
from chat.models import Session
from onesource.errors import Gone, NotFound

HISTORY_LIMIT = 200


def session_for(subject_ref: str, session_id: uuid.UUID, *, required: bool = False) -> Session | None:
    """The caller's session; None when nobody has one of this id yet and none is `required`.

    A stranger's session and a deleted one raise the same NotFound: neither tells that the id is in use.
    """
    session = Session.objects.filter(pk=session_id).first()
    if session is None and not required:
        return None
    if session is None or session.subject_ref != subject_ref or session.deleted_at:
        raise NotFound("This session does not exist or is not yours.", code="session_not_found")
    return session


def sessions_of(subject_ref: str) -> QuerySet[Session]:
    return Session.objects.filter(subject_ref=subject_ref, deleted_at=None)


def conversation_of(session: Session, limit: int = HISTORY_LIMIT) -> Iterator[dict[str, Any]]:
    """The last retained turns of a session, oldest first: {turn, asked_at, question, answer}. Raises Gone."""
    for row in contents_last(session.pk, limit):
        try:
            payload = content_read(row)
        except ContentUnreadable:
            raise Gone("The texts of this conversation cannot be read any more.", code="content_gone") from None
        yield {
            "turn": row.seq,
            "asked_at": row.created_at,
            "question": payload["question"],
            "answer": payload["answer"],
        }
