from collections.abc import Sequence

from django.conf import settings

from chat.pipeline.turn import TurnInput
from chat.providers.base import tokens_estimate
from chat.stores.base import Message

# Each message costs a few tokens of its own besides its text (role and separators in the chat template).
MESSAGE_TOKENS = 4


def history_trim(turn: TurnInput, bare: Sequence[dict[str, str]]) -> list[Message]:
    """The newest whole turns that fit; the oldest are left out first.

    They may be CONV_MAX_TURNS at the most, and together with `bare`, the prompt without any history, and the longest
    reply they must fit into the model's context.
    """
    taken = sum(tokens_estimate(message["content"]) + MESSAGE_TOKENS for message in bare)
    budget = settings.LLM_CONTEXT_TOKENS - settings.LLM_MAX_TOKENS - taken
    return turns_fitting(turn.history, max_turns=int(turn.flags.number("CONV_MAX_TURNS")), token_budget=budget)


def turns_fitting(history: Sequence[Message], *, max_turns: int, token_budget: int) -> list[Message]:
    kept: list[Message] = []
    spent = 0
    turns = [history[i : i + 2] for i in range(len(history) % 2, len(history), 2)]
    for turn in reversed(turns[-max_turns:] if max_turns > 0 else []):
        spent += sum(tokens_estimate(message.text) + MESSAGE_TOKENS for message in turn)
        if spent > token_budget:
            break
        kept[:0] = turn
    return kept
