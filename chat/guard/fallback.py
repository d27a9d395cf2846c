"""The reply word for word, for when it has no form to go by, and the constants for when there is no reply."""

from typing import Any

from chat.guard.draft import leaves
from chat.guard.fit import TEXT_LIMIT, TITLE_LIMIT, pieces

EMPTY_TITLE = "No answer"
EMPTY_TEXT = "The model replied with nothing. Please ask again, or ask in other words."
ENDED_TEXT = "The answer was ended before any of it had come. Please ask again."
REFUSAL_TITLE = "The model declined to answer"


def wrapped(text: str, title: str) -> dict[str, Any]:
    blocks = [{"type": "markdown", "text": part} for part in pieces(text, TEXT_LIMIT)]
    return {"title": title, "summary": "", "blocks": blocks}


def raw_draft(text: str, title: str) -> dict[str, Any]:
    """The text as Markdown; `title` "" is to be derived."""
    return wrapped(text, title)


def derived_title(draft: dict[str, Any]) -> str:
    """The first line with a word in it, without Markdown's marks, cut at a word's end."""
    for text in leaves(draft):
        for line in text[: 10 * TITLE_LIMIT].splitlines():
            words = line.strip().lstrip("#>*-`~ \t").rstrip("#*`~: \t")
            if any(character.isalnum() for character in words):
                return pieces(words, TITLE_LIMIT)[0].rstrip()
    return ""
