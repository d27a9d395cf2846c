"""How much of a conversation goes with a question: whole turns, the newest, within turns and tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat.pipeline.context import turns_fitting
from chat.providers.base import tokens_estimate
from chat.stores.base import Message
from tests.chat.asking import converse


def messages(*texts: str) -> list[Message]:
    return [Message(n, "user" if n % 2 else "assistant", text) for n, text in enumerate(texts, 1)]


TURNS = st.lists(st.tuples(st.text(max_size=200), st.text(max_size=200)), max_size=12)


@given(turns=TURNS, max_turns=st.integers(0, 14), budget=st.integers(0, 600))
def test_what_is_kept_is_the_newest_whole_turns_within_both_limits(turns, max_turns, budget):
    history = messages(*[text for turn in turns for text in turn])
    kept = turns_fitting(history, max_turns=max_turns, token_budget=budget)
    assert kept == (history[-len(kept) :] if kept else [])
    assert len(kept) % 2 == 0
    assert len(kept) <= 2 * max_turns
    assert sum(tokens_estimate(message.text) for message in kept) <= budget


@given(turns=TURNS)
def test_what_fits_is_kept_whole(turns):
    history = messages(*[text for turn in turns for text in turn])
    assert turns_fitting(history, max_turns=12, token_budget=10_000) == history


def test_a_turn_that_does_not_fit_ends_the_history_even_when_an_older_one_would_fit():
    history = messages("a", "b", "c" * 4000, "d", "e", "f")
    assert [message.text for message in turns_fitting(history, max_turns=9, token_budget=100)] == ["e", "f"]


def test_half_a_turn_at_the_start_is_left_out():
    history = messages("x", "a", "b", "c", "d")[1:]
    odd = [Message(0, "assistant", "orphan"), *history]
    assert [message.text for message in turns_fitting(odd, max_turns=9, token_budget=100)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), ("\ud800", 1)]
)
def test_tokens_are_estimated_from_bytes_rounded_up(text, tokens):
    assert tokens_estimate(text) == tokens


def asked(model, n=-1) -> list[str]:
    return [message["content"] for message in model.bodies[n]["messages"] if message["role"] == "user"]


@pytest.mark.django_db
@pytest.mark.parametrize("pipeline", [True, False], ids=["unified", "legacy"])
@pytest.mark.parametrize("limit", [0, 1, 2, 16])
def test_a_question_carries_the_last_turns(owner, model, flag, limit, pipeline):
    flag("CONV_MAX_TURNS", limit)
    flag("USE_UNIFIED_PIPELINE", pipeline)
    converse(owner, "q1", "q2", "q3", "q4")
    assert asked(model) == ["q1", "q2", "q3", "q4"][max(0, 3 - limit) :]


@pytest.mark.django_db
@pytest.mark.parametrize("pipeline", [True, False], ids=["unified", "legacy"])
def test_a_question_carries_no_more_than_the_models_context_holds(owner, model, flag, settings, pipeline):
    flag("USE_UNIFIED_PIPELINE", pipeline)
    settings.LLM_CONTEXT_TOKENS, settings.LLM_MAX_TOKENS = 4000, 500
    converse(owner, *[f"q{n} " + "word " * 600 for n in range(8)])
    kept = [question[:2] for question in asked(model)]
    assert 1 < len(kept) < 8
    assert kept == [f"q{n}" for n in range(8 - len(kept), 8)]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_prompt_and_reply_fit_the_models_context_with_the_longest_question(owner, model, settings, path):
    long = "How high must a handrail be in a house? " + "word " * 1592
    converse(owner, long[:8000], *["q " + "word " * 700] * 6, long[:8000], path=path)
    prompt = sum(tokens_estimate(message["content"]) for message in model.bodies[-1]["messages"])
    assert prompt + model.bodies[-1]["max_tokens"] <= settings.LLM_CONTEXT_TOKENS


@pytest.mark.django_db
def test_the_answers_go_along_as_text(owner, model):
    converse(owner, "q1", "q2")
    assistant = [message for message in model.bodies[1]["messages"] if message["role"] == "assistant"]
    assert len(assistant) == 1
    assert "865 mm" in assistant[0]["content"]
    assert '"blocks"' not in assistant[0]["content"]


@pytest.mark.django_db
def test_a_strangers_conversation_is_never_in_the_prompt(owner, stranger, model):
    converse(owner, "the owner's site")
    converse(stranger, "q1", "q2")
    assert "the owner's site" not in str(model.bodies[1:])
