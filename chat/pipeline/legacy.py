import time

from chat.guard import draft_text, plain
from chat.pipeline.context import history_trim
from chat.pipeline.prompt import LEGACY_VERSION, legacy_messages
from chat.pipeline.provide import provide
from chat.pipeline.references import REFERENCE_LIMIT, citations_resolve
from chat.pipeline.turn import Drafted, TurnInput
from chat.providers import CompletionRequest
from knowledge.references import references_mark


def legacy_draft(turn: TurnInput) -> Drafted:
    """History, one plain prompt, plain text wrapped as a valid answer: the way back when the unified one misbehaves."""
    deadline = time.monotonic() + turn.flags.number("LLM_TIMEOUT_MS") / 1000
    if turn.sink:
        turn.sink.plain()
    history = history_trim(turn, legacy_messages(turn.question, []))
    provided = provide(
        CompletionRequest(
            question=turn.question,
            messages=legacy_messages(turn.question, history),
            earlier_questions=turn.earlier_questions,
            deadline=deadline,
        ),
        turn.sink,
    )
    completion = provided.completion
    guarded = plain(completion.text, stop_reason=completion.stop_reason)
    text = draft_text(guarded.draft)
    return Drafted(
        pipeline="legacy",
        completion=completion,
        guarded=guarded,
        degraded=provided.degraded,
        provider_seconds=provided.seconds,
        citations=citations_resolve(text, completion.passages),
        references=references_mark(text)[:REFERENCE_LIMIT],
        template=LEGACY_VERSION,
        history_turns=len(history) // 2,
        failure=provided.failure,
        ended=provided.ended,
    )
