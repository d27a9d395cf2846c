"""What goes into a turn and what comes out of its pipeline, before it is recorded."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chat.guard import Guarded
from chat.pipeline.sink import BlockSink
from chat.providers import Completion
from chat.stores.base import Message
from flags.snapshot import Snapshot, Subject
from knowledge.references import Mark

Endpoint = Literal["chat", "enhanced"]
PipelineName = Literal["unified", "legacy"]


@dataclass(frozen=True, slots=True)
class TurnInput:
    turn_id: uuid.UUID
    session_id: uuid.UUID
    question: str
    endpoint: Endpoint
    history: Sequence[Message]
    flags: Snapshot
    subject: Subject
    sink: BlockSink | None = None

    @property
    def enhanced(self) -> bool:
        return self.endpoint == "enhanced"

    @property
    def earlier_questions(self) -> list[str]:
        return [message.text for message in self.history if message.role == "user"]


@dataclass(frozen=True, slots=True)
class Drafted:
    """A guarded reply with all that the server adds but meta."""

    pipeline: PipelineName
    completion: Completion
    guarded: Guarded
    degraded: bool
    provider_seconds: float
    citations: list[dict[str, Any]] = field(default_factory=list)
    references: list[Mark] = field(default_factory=list)
    suggested_actions: list[dict[str, str]] = field(default_factory=list)
    template: str = ""
    passage_keys: tuple[str, ...] = ()
    history_turns: int = 0
    failure: str = ""
    ended: str = ""

    @property
    def outcome(self) -> str:
        """How the turn ended, for metrics and facts: answered, degraded, declined (not known), refused, or
        aborted (stopped, abandoned, or its worker died)."""
        if self.ended:
            return "aborted"
        if self.degraded:
            return "degraded"
        if self.completion.declined:
            return "declined"
        return "refused" if self.guarded.outcome == "refusal" else "answered"
