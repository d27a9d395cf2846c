"""A turn whose content is retained or held run again: the same question, history, flags and passages, through this
release. Nothing is stored but the event that says who did it and why."""

import difflib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from audit import actions
from audit.content import ContentUnreadable
from audit.selectors import content_for_review, content_read, contents_before, facts_of
from chat.guard import draft_text, guard
from chat.models import Turn
from chat.pipeline.legacy import legacy_draft
from chat.pipeline.turn import Drafted, TurnInput
from chat.pipeline.unified import unified_draft
from chat.stores.base import Message
from flags.registry import REGISTRY, BadValue, Value
from flags.snapshot import Rules, Snapshot, Subject
from knowledge.retrieval import Found, passages_named
from onesource.errors import Gone
from review.acts import act_record
from review.damage import RecordDamaged
from review.reasons import reason_check
from review.selectors import event_of, turn_for


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing as it was recorded and as it came out now."""

    name: str
    recorded: str
    replayed: str

    @property
    def same(self) -> bool:
        return self.recorded == self.replayed


@dataclass(frozen=True, slots=True)
class Replay:
    """`caveats` say what could not be put back as it was; `text_diff` is a unified diff, empty for the same text."""

    turn_id: uuid.UUID
    compared: list[Compared]
    caveats: list[str] = field(default_factory=list)
    text_diff: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not self.text_diff and all(one.same for one in self.compared)


def turn_replay(*, turn_id: uuid.UUID, reason: str, actor_ref: str, source: str) -> Replay:
    """Asks the configured provider. Raises NotFound, BadInput for a reason that is none, Gone without content, and
    RecordDamaged."""
    reason = reason_check(reason)
    turn = turn_for(turn_id)
    event = event_of(turn)
    facts = facts_of(event) if event else {}
    if not isinstance(facts.get("flags"), dict):
        raise RecordDamaged()
    act_record(turn=turn, kind=actions.TURN_REPLAYED, reason=reason, actor_ref=actor_ref, source=source)
    payload = _payload(turn)
    caveats: list[str] = []
    given = TurnInput(
        turn_id=uuid.uuid4(),
        session_id=turn.session_id,
        question=payload["question"],
        endpoint="enhanced" if turn.endpoint == "enhanced" else "chat",
        history=_history(turn, caveats),
        flags=_flags(facts["flags"], caveats),
        subject=Subject(turn.session.subject_ref),
        passages=_passages(facts, caveats),
    )
    drafted = unified_draft(given) if given.pipeline == "unified" else legacy_draft(given)
    text = draft_text(drafted.guarded.draft)
    before, after = payload["answer_text"].splitlines(), text.splitlines()
    return Replay(
        turn_id,
        [*_compared(turn, facts, drafted), _guard_compared(facts, payload)],
        caveats,
        list(difflib.unified_diff(before, after, "recorded", "now", lineterm="")),
    )


def _payload(turn: Turn) -> dict[str, Any]:
    row = content_for_review(turn.pk)
    if row is None:
        raise Gone("The question is no longer held, so it cannot be asked again.", code="content_gone")
    try:
        return content_read(row)
    except ContentUnreadable:
        raise Gone("The question does not decrypt any more.", code="content_gone") from None


def _history(turn: Turn, caveats: list[str]) -> list[Message]:
    messages = []
    for row in contents_before(turn.session_id, turn.seq, turn.history_turns):
        try:
            earlier = content_read(row)
        except ContentUnreadable:
            continue
        messages.append(Message(2 * row.seq - 1, "user", earlier["question"]))
        messages.append(Message(2 * row.seq, "assistant", earlier["answer_text"]))
    if len(messages) < 2 * turn.history_turns:
        caveats.append(f"Of {turn.history_turns} earlier turns {len(messages) // 2} are still held.")
    return messages


def _flags(recorded: dict[str, Any], caveats: list[str]) -> Snapshot:
    """Every flag pinned to its recorded value; one that this release does not know, or no longer takes, is named."""
    pins: dict[str, Value] = {}
    for key, value in recorded.items():
        entry = REGISTRY.get(key)
        if entry is None:
            if key != "epoch":
                caveats.append(f"The flag {key} ({value}) does not exist in this release.")
            continue
        try:
            pins[key] = entry.check(float(value) if entry.type == "number" else value)
        except (BadValue, ValueError):
            caveats.append(f"The flag {key} no longer takes {value}; its value of today was used.")
    return Snapshot(int(recorded.get("epoch", 0)), time.monotonic(), pins, Rules())


def _passages(facts: dict[str, Any], caveats: list[str]) -> Sequence[Found]:
    keys = [str(key) for key in facts.get("passages", [])]
    found = passages_named(keys)
    missing = sorted(set(keys) - {passage.key for passage in found})
    caveats += [f"The passage {key} is no longer in the knowledge base." for key in missing]
    recorded = dict(zip(keys, facts.get("passage_hashes", []), strict=False))
    edited = [passage.key for passage in found if recorded.get(passage.key, passage.digest) != passage.digest]
    caveats += [f"The passage {key} was edited since." for key in edited]
    return found


def _compared(turn: Turn, facts: dict[str, Any], drafted: Drafted) -> list[Compared]:
    now: dict[str, tuple[Any, Any]] = {
        "pipeline": (turn.pipeline, drafted.pipeline),
        "prompt template": (facts.get("template"), drafted.template),
        "provider": (turn.provider, drafted.completion.provider),
        "model": (turn.model, drafted.completion.model),
        "outcome": (turn.outcome, drafted.outcome),
        "passages": (facts.get("passages"), [found.key for found in drafted.passages]),
        "repair codes": (turn.repair_codes, drafted.guarded.codes),
        "references": (
            [mark["text"] for mark in turn.references],
            [mark["text"] for mark in drafted.references],
        ),
    }
    return [Compared(name, _told(recorded), _told(replayed)) for name, (recorded, replayed) in now.items()]


def _guard_compared(facts: dict[str, Any], payload: dict[str, Any]) -> Compared:
    """The guard alone, over the very reply that was recorded: without a model it must come to the same answer."""
    answer = payload["answer"]
    draft = {name: answer[name] for name in ("title", "summary", "blocks")}
    if "raw" not in payload:
        return Compared("guard over the recorded reply", "passed unchanged", "passed unchanged")
    guarded = guard(payload["raw"], stop_reason=facts.get("stop_reason", "stop"))
    same = guarded.draft == draft
    return Compared("guard over the recorded reply", "this answer", "this answer" if same else "another answer")


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)
