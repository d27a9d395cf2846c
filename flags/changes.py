"""Who changes a flag and why, for the length of a block: the write paths below it put this on record."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    actor_ref: str = ""
    reason: str = ""
    source: str = "code"


# The source of what a guarded rollout does by itself, which is no edit of a person's.
ROLLOUT = "rollout"
_change: ContextVar[Change | None] = ContextVar("flag_change", default=None)


@contextmanager
def acting(*, actor_ref: str, reason: str, source: str) -> Iterator[None]:
    token = _change.set(Change(actor_ref, reason, source))
    try:
        yield
    finally:
        _change.reset(token)


def current_change() -> Change:
    return _change.get() or Change()
