"""The repair codes: one fixed plain sentence each, so that two reviewers read the same thing."""

from dataclasses import dataclass
from enum import Enum


class Class(Enum):
    NOISE = "N"
    SYNTAX = "S"
    SHAPE = "A"
    DERIVED = "D"
    LOSS = "L"
    FALLBACK = "F"


@dataclass(frozen=True, slots=True)
class Code:
    name: str
    cls: Class
    sentence: str


CODES: dict[str, Code] = {
    code.name: code
    for code in (
        Code("SURROGATE", Class.SYNTAX, "A character that is not valid Unicode was replaced."),
        Code("TITLE_DERIVED", Class.DERIVED, "The reply had no title; its first words serve as one."),
        Code("TRUNCATED", Class.LOSS, "The model stopped before it had finished; the end of the reply is missing."),
        Code("OVERSIZE", Class.LOSS, "The reply was longer than is accepted; its end was left out."),
        Code("RAW_FALLBACK", Class.FALLBACK, "The reply did not have the agreed form; it is shown word for word."),
        Code("REFUSAL", Class.FALLBACK, "The model declined to answer; its refusal is shown."),
        Code("EMPTY", Class.FALLBACK, "The model replied with nothing."),
    )
}
