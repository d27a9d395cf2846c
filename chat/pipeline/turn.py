"""What goes into a turn and what comes out of its pipeline, before it is recorded."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chat.guard import CODES, Class, Guarded
from chat.pipeline.sink import BlockSink
from chat.providers import Completion
from chat.stores.base import Message
from chat.stores.waiting import TurnWaits
from flags.snapshot import Snapshot, Subject
from knowledge.references import Mark
from knowledge.retrieval import Found

Endpoint = Literal["chat", "enhanced"]
PipelineName = Literal["unified", "legacy"]
# What a grammar rules out.
FORM = frozenset({Class.NOISE, Class.SYNTAX, Class.SHAPE})
# Repairs of characters inside texts that were sound JSON: a grammar lets them through.
WITHIN_TEXTS = frozenset(
    {"SURROGATE", "CONTROL", "CTRL_RESTORED", "INVISIBLE", "BIDI", "LINK_REMOVED", "STREAM_KEPT", "SPLIT_LONG",
     "BLOCKS_MERGED"}
)  # fmt: skip


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
    # Of the commitment to the question, when that is on record already.
    salt: bytes | None = None
    # Of a replay: what the recorded turn was given, in place of a search.
    passages: Sequence[Found] | None = None
    # Of a stream that another process began: the arms of that moment.
    begun_arms: Mapping[str, bool] | None = None
    waits: TurnWaits = field(default_factory=TurnWaits, compare=False)

    @property
    def enhanced(self) -> bool:
        return self.endpoint == "enhanced"

    @property
    def pipeline(self) -> PipelineName:
        return "unified" if self.flags.boolean("USE_UNIFIED_PIPELINE", self.subject) else "legacy"

    @property
    def arms(self) -> dict[str, bool]:
        """The value of each cohort flag for this turn's subject."""
        return self.flags.arms(self.subject) if self.begun_arms is None else dict(self.begun_arms)

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
    passages: tuple[Found, ...] = ()
    history_turns: int = 0
    failure: str = ""
    ended: str = ""

    @property
    def enforcement_lost(self) -> bool:
        """The provider was asked to enforce the form, did not object, and the reply was out of form all the same."""
        broken = {code for code in self.guarded.codes if CODES[code].cls in FORM or code == "RAW_FALLBACK"}
        # A reply cut off, or a refusal, is not of the agreed form and cannot be.
        whole = self.completion.stop_reason == "stop"
        return self.completion.enforced and whole and bool(broken - WITHIN_TEXTS)

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
