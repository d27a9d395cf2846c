"""Legal holds: while one is open, no content of its session is deleted by anyone."""

import uuid
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import actions
from audit.erasing import keys_purge
from audit.files import files_clean
from audit.models import Event, HeldContent, LegalHold, TurnContent
from audit.services import event_record
from onesource.errors import BadInput, Conflict, NotFound

REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Placed:
    """`turns` of the session still had their content."""

    hold: LegalHold
    turns: int


@dataclass(frozen=True, slots=True)
class Released:
    """`turns` whose content went with the hold: expired, deleted by its owner or erased meanwhile."""

    hold: LegalHold
    turns: int


def hold_place(*, session_id: uuid.UUID, reason: str, actor_ref: str, source: str) -> Placed:
    """Keeps what content of the session there is and will be. Raises BadInput, NotFound, or Conflict for a session
    that is held already."""
    reason = reason_check(reason)
    if not Event.objects.filter(stream=f"session:{session_id}").exists():
        raise NotFound("There is no such conversation on record.", code="session_not_found")
    now = timezone.now()
    try:
        with transaction.atomic():
            hold = LegalHold.objects.create(session_id=session_id, reason=reason, placed_by=actor_ref, placed_at=now)
            # Waits for whoever is deleting them, and makes whoever wants to delete them wait until the hold is seen.
            contents = TurnContent.objects.select_for_update().filter(session_id=session_id).order_by("pk")
            expiries = list(contents.values_list("expires_at", flat=True))
            turns = sum(expires_at > now for expires_at in expiries)
            event_record(
                kind=actions.HOLD_PLACED,
                stream=f"hold:{session_id}",
                actor_ref=actor_ref,
                facts=_facts(hold, reason, source) | {"turns": turns},
            )
    except IntegrityError as error:
        if not LegalHold.objects.filter(session_id=session_id, released_at=None).exists():
            raise
        raise Conflict("This conversation is under a legal hold already.", code="already_held") from error
    return Placed(hold, turns)


def hold_release(*, session_id: uuid.UUID, reason: str, actor_ref: str, source: str) -> Released:
    """Ends the hold and deletes what only it has kept. Raises BadInput or NotFound."""
    reason = reason_check(reason)
    with transaction.atomic():
        now = timezone.now()
        # First, as whoever deletes contents does before it reads the holds, or the two would wait for each other.
        list(TurnContent.objects.select_for_update().filter(session_id=session_id).order_by("pk").values_list("pk"))
        hold = LegalHold.objects.select_for_update().filter(session_id=session_id, released_at=None).first()
        if hold is None:
            raise NotFound("This conversation is under no legal hold.", code="not_held")
        hold.released_at, hold.released_by = now, actor_ref
        hold.save(update_fields=["released_at", "released_by"])
        # Copies are made of what has expired or was deleted alone, so none has any other ground to be kept.
        turns = 0
        key_ids: set[int] = set()
        for contents in (
            HeldContent.objects.filter(session_id=session_id),
            TurnContent.objects.filter(session_id=session_id, expires_at__lte=now),
        ):
            key_ids.update(contents.values_list("key_id", flat=True))
            turns += contents.delete()[0]
        keys_purge(key_ids)
        event_record(
            kind=actions.HOLD_RELEASED,
            stream=f"hold:{session_id}",
            actor_ref=actor_ref,
            facts=_facts(hold, reason, source) | {"turns_deleted": turns},
        )
        transaction.on_commit(files_clean, robust=True)
    return Released(hold, turns)


def _facts(hold: LegalHold, reason: str, source: str) -> dict[str, object]:
    return {"session_id": str(hold.session_id), "hold": hold.pk, "reason": reason, "source": source}


def reason_check(reason: str) -> str:
    """The reason without white space around it. Raises BadInput."""
    reason = reason.strip()
    if not reason or len(reason) > REASON_CHARS:
        told = f"Say why, in 1 to {REASON_CHARS} characters; it goes on record."
        raise BadInput(told, code="bad_reason", errors={"reason": [told]})
    return reason
