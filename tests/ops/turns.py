"""Turns and failures as the record would hold them, by the hundred."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from chat.models import Session, Turn, TurnFailure

KEY = "FEATURE_SUGGESTED_ACTIONS"
GOOD: dict[str, Any] = {
    "endpoint": "chat",
    "pipeline": "unified",
    "track": "stable",
    "outcome": "answered",
    "provider": "extractive",
    "model": "",
    "degraded": False,
    "repaired": False,
    "context": "hit",
    "history_turns": 0,
    "question_chars": 10,
    "answer_chars": 10,
    "prompt_tokens": 1,
    "completion_tokens": 1,
    "total_us": 20_000,
    "provider_us": 10_000,
}


def turns_make(count: int, *, canary: bool | None, at: datetime | None = None, key: str = KEY, **fields: Any) -> None:
    """`canary` None: recorded by a release that wrote no arms."""
    at = at or timezone.now() - timedelta(seconds=5)
    session = Session.objects.create(id=uuid.uuid4(), subject_ref="a" * 32, created_at=at, last_turn_at=at)
    arms = None if canary is None else {key: canary}
    row = {**GOOD, "created_at": at, "arms": arms, **fields}
    Turn.objects.bulk_create(
        [Turn(session=session, seq=seq, event_uid=uuid.uuid4(), **row) for seq in range(1, count + 1)]
    )


def failures_make(count: int, *, canary: bool, at: datetime | None = None, key: str = KEY) -> None:
    at = at or timezone.now() - timedelta(seconds=5)
    row = {"at": at, "endpoint": "chat", "pipeline": "unified", "arms": {key: canary}, "code": "ValueError"}
    TurnFailure.objects.bulk_create([TurnFailure(**row) for _ in range(count)])
