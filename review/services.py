"""What reviewers do: each act is on record before anybody sees its result."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import Error, transaction
from django.utils import timezone

from audit import actions
from audit.content import ContentUnreadable
from audit.selectors import content_for_review, content_read, facts_of
from audit.services import commitment_make, event_record
from chat.models import Turn
from onesource.errors import BadInput, Gone
from review.acts import act_record, not_recorded
from review.exporting import Evidence, evidence_of, evidence_zip
from review.filters import TurnFilters
from review.reasons import reason_check
from review.room import room_check
from review.selectors import content_state, event_of, turn_for, turn_ids
from review.sheets import turns_csv
from review.timeline import EXPORTS

EXPORT_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Revealed:
    """`raw` is the provider's reply where the guard changed it; `event` is the record of this look.

    `authentic` tells whether question and answer are those that the trail is committed to.
    """

    turn: Turn
    question: str
    answer: dict[str, Any]
    raw: str | None
    event: uuid.UUID
    authentic: bool


def content_reveal(*, turn_id: uuid.UUID, reason: str, actor_ref: str, source: str) -> Revealed:
    """The texts of a turn, decrypted after the event that says so is committed.

    Raises NotFound, BadInput for a reason that is none, Gone, and Unavailable when the look cannot be recorded.
    """
    reason = reason_check(reason)
    turn = turn_for(turn_id)
    state = content_state(turn)
    if not state.readable:
        raise _gone(state.sentence)
    event = act_record(turn=turn, kind=actions.CONTENT_REVEALED, reason=reason, actor_ref=actor_ref, source=source)
    row = content_for_review(turn_id)
    if row is None:
        # It went between the two looks.
        raise _gone(content_state(turn).sentence)
    try:
        payload = content_read(row)
    except ContentUnreadable:
        raise _gone("The content is there and does not decrypt: its key is gone, or it was altered.") from None
    return Revealed(
        turn, payload["question"], payload["answer"], payload.get("raw"), event, authentic=_authentic(turn, payload)
    )


def _authentic(turn: Turn, payload: dict[str, Any]) -> bool:
    recorded = event_of(turn)
    facts = facts_of(recorded) if recorded else {}
    salt = bytes.fromhex(payload["salt"])
    # The answer's text as it was made then: a later release may put the same blocks into other words.
    texts = {"question": payload["question"], "answer": payload["answer_text"]}
    return all(facts.get(name) == commitment_make(salt, text).facts() for name, text in texts.items())


def _gone(sentence: str) -> Gone:
    return Gone(sentence, code="content_gone")


def turns_export(
    *,
    filters: TurnFilters,
    format_: str,
    reason: str,
    actor_ref: str,
    source: str,
    with_content: bool = False,
    limit: int = EXPORT_LIMIT,
) -> Iterator[str] | Iterator[bytes]:
    """The turns that a search finds, as a file in pieces; recorded with filters and number before the first of them.

    `with_content` puts the texts into a ZIP: for those who may reveal them. Raises BadInput for a reason that is none,
    for no turns and for more than `limit`, Unavailable, and for a ZIP BadInput when it would hold more than its own
    verify.py reads, proofs.NotSealedYet and LogDamaged.
    """
    reason = reason_check(reason)
    # What is recorded while this runs must not make the file another than the record says.
    now = timezone.now()
    filters = replace(filters, until=min(filters.until or now, now))
    ids = turn_ids(filters, limit + 1)
    if len(ids) > limit:
        raise BadInput(
            f"More than {limit} turns match. Narrow the time or another filter, and export in parts.",
            code="too_many_turns",
        )
    evidence: Evidence = []
    if format_ == "zip":
        if not ids:
            raise BadInput("No turn matches, so there is nothing to prove.", code="no_turns")
        room_check(ids, with_content=with_content)
        evidence = evidence_of(ids)
    facts = {
        "what": "turns",
        "format": format_,
        "content": with_content,
        "turns": len(ids),
        "filters": filters.facts(),
        "reason": reason,
        "source": source,
    }
    try:
        with transaction.atomic(durable=True):
            event_record(kind=actions.EXPORT_MADE, stream=EXPORTS, actor_ref=actor_ref, facts=facts)
    except Error as error:
        raise not_recorded("Nothing is exported, because it could not be recorded.") from error
    return evidence_zip(ids, evidence, with_content=with_content) if format_ == "zip" else turns_csv(ids)
