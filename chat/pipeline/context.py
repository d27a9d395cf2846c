from collections.abc import Sequence

from chat.providers.base import tokens_estimate
from chat.stores.base import Message

# Each message costs a few tokens of its own besides its text (role and separators in the chat template).
MESSAGE_TOKENS = 4


def history_trim(history: Sequence[Message], *, max_turns: int, token_budget: int) -> list[Message]:
    """The newest whole turns that fit into both limits; the oldest are left out first."""
    kept: list[Message] = []
    spent = 0
    turns = [history[i : i + 2] for i in range(len(history) % 2, len(history), 2)]
    for turn in reversed(turns[-max_turns:] if max_turns > 0 else []):
        spent += sum(tokens_estimate(message.text) + MESSAGE_TOKENS for message in turn)
        if spent > token_budget:
            break
        kept[:0] = turn
    return kept
