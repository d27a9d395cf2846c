"""Pages by keyset: the cursor is the last row's place, signed, so that none but ours is taken."""

import uuid
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.core import signing
from django.db.models import Q, QuerySet
from rest_framework.request import Request

from chat.models import Session
from onesource.errors import BadInput

PAGE = 50
SALT = "onesource.sessions"


def sessions_page(sessions: QuerySet[Session], request: Request) -> tuple[list[Session], str | None]:
    """One page of `sessions`, latest first, and the address of the next one. Raises BadInput for a foreign cursor."""
    cursor = request.query_params.get("cursor")
    if cursor is not None:
        at, pk = _cursor_read(cursor)
        sessions = sessions.filter(Q(last_turn_at__lt=at) | Q(last_turn_at=at, pk__lt=pk))
    rows = list(sessions.order_by("-last_turn_at", "-pk")[: PAGE + 1])
    if len(rows) <= PAGE:
        return rows, None
    last = rows[PAGE - 1]
    following: Any = signing.dumps([last.last_turn_at.isoformat(), str(last.pk)], salt=SALT)
    return rows[:PAGE], request.build_absolute_uri(f"{request.path}?{urlencode({'cursor': following})}")


def _cursor_read(cursor: str) -> tuple[datetime, uuid.UUID]:
    try:
        at, pk = signing.loads(cursor, salt=SALT)
        return datetime.fromisoformat(at), uuid.UUID(pk)
    except (signing.BadSignature, ValueError, TypeError):
        raise BadInput("This cursor is not one of ours. Start again without it.", code="bad_cursor") from None
