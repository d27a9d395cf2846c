import time
from collections.abc import Sequence

from chat.guard import draft_text, guard, wire_schema
from chat.pipeline.context import history_trim
from chat.pipeline.prompt import UNIFIED_VERSION, unified_messages
from chat.pipeline.provide import provide
from chat.pipeline.references import REFERENCE_LIMIT, citations_resolve
from chat.pipeline.suggest import actions_suggest
from chat.pipeline.turn import Drafted, TurnInput
from chat.providers import CompletionRequest
from knowledge.references import references_mark
from knowledge.retrieval import Found, search

PASSAGES = 6


def unified_draft(turn: TurnInput) -> Drafted:
    """Retrieval (enhanced only), one structured prompt, guard, references, suggestions."""
    deadline = time.monotonic() + turn.flags.number("LLM_TIMEOUT_MS") / 1000
    suggesting = turn.flags.boolean("FEATURE_SUGGESTED_ACTIONS", turn.subject)
    found = search(turn.question, limit=PASSAGES, history=turn.earlier_questions) if turn.enhanced or suggesting else []
    passages = (found if turn.passages is None else turn.passages) if turn.enhanced else []
    history = history_trim(turn, unified_messages(turn.question, [], passages))
    provided = provide(
        CompletionRequest(
            question=turn.question,
            messages=unified_messages(turn.question, history, passages),
            earlier_questions=turn.earlier_questions,
            deadline=deadline,
            passages=passages,
            schema=wire_schema(),
        ),
        turn.sink,
    )
    completion = provided.completion
    guarded = guard(completion.text, stop_reason=completion.stop_reason, emitted=turn.sink.blocks if turn.sink else ())
    text = draft_text(guarded.draft)
    return Drafted(
        pipeline="unified",
        completion=completion,
        guarded=guarded,
        degraded=provided.degraded,
        provider_seconds=provided.seconds,
        citations=citations_resolve(text, completion.passages),
        references=references_mark(text)[:REFERENCE_LIMIT],
        suggested_actions=actions_suggest(_unused(found, completion.passages)) if suggesting else [],
        template=UNIFIED_VERSION,
        passages=tuple(completion.passages),
        history_turns=len(history) // 2,
        failure=provided.failure,
        ended=provided.ended,
    )


def _unused(found: Sequence[Found], used: Sequence[Found]) -> list[Found]:
    """What was found besides the passage that the answer rests on first."""
    first = {passage.passage_id for passage in used[:1]}
    return [passage for passage in found if passage.passage_id not in first]
