"""Turns as CSV (RFC 4180), facts only."""

import csv
import io
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from chat.models import Turn
from review.filters import Arm
from review.selectors import turns_of

COLUMNS = (
    "recorded_at", "turn_id", "session_id", "turn", "user", "endpoint", "pipeline", "track", "outcome", "provider",
    "model", "degraded", "repaired", "repair_codes", "references", "unknown_references", "arms", "question_chars",
    "answer_chars", "prompt_tokens", "completion_tokens", "total_ms", "provider_ms", "first_token_ms", "event",
)  # fmt: skip
CHUNK = 500
# What a spreadsheet takes for the start of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def turns_csv(ids: Sequence[uuid.UUID]) -> Iterator[str]:
    """A header and a line for each turn, in pieces."""
    yield _lines([list(COLUMNS)])
    for start in range(0, len(ids), CHUNK):
        yield _lines([_cells(turn) for turn in turns_of(list(ids[start : start + CHUNK]))])


def _lines(rows: list[list[str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def _cells(turn: Turn) -> list[str]:
    arms = [str(Arm(key, on)) for key, on in sorted((turn.arms or {}).items())]
    cells: list[Any] = [
        turn.created_at.isoformat(),
        turn.pk,
        turn.session_id,
        turn.seq,
        turn.session.subject_ref,
        turn.endpoint,
        turn.pipeline,
        turn.track,
        turn.outcome,
        turn.provider,
        turn.model,
        "yes" if turn.degraded else "no",
        "yes" if turn.repaired else "no",
        " ".join(turn.repair_codes),
        "; ".join(mark["text"] for mark in turn.references),
        "; ".join(mark["text"] for mark in turn.references if not mark["known"]),
        " ".join(arms),
        turn.question_chars,
        turn.answer_chars,
        turn.prompt_tokens,
        turn.completion_tokens,
        turn.total_us // 1000,
        turn.provider_us // 1000,
        "" if turn.first_token_us is None else turn.first_token_us // 1000,
        turn.event_uid,
    ]
    return [cell_text(cell) for cell in cells]


def cell_text(cell: Any) -> str:
    text = str(cell)
    return f"'{text}" if text.startswith(FORMULA) else text
