"""Turns the text of a reply, while it comes, into the blocks that are closed and valid."""

import time
from collections.abc import Callable
from typing import Any

from chat.guard import Scanner
from chat.providers.base import TextSink


class StreamEnded(Exception):
    """`reason`: stopped (somebody asked for the end) or abandoned (nobody watches any more)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BlockSink(TextSink):
    """`emit(index, block)` gets each block once, in order, and says whether it was sent; none is ever taken back.

    After one that was not, no more are offered: the answer carries the rest. `watch` raises StreamEnded.
    """

    def __init__(self, *, emit: Callable[[int, dict[str, Any]], bool], watch: Callable[[], None]) -> None:
        self._emit = emit
        self._watch = watch
        self._scanner: Scanner | None = Scanner()
        self._parts: list[str] = []
        self.blocks: list[dict[str, Any]] = []
        # A time.perf_counter() instant.
        self.first_text_at: float | None = None

    @property
    def received(self) -> str:
        return "".join(self._parts)

    def text(self, delta: str) -> None:
        if self.first_text_at is None:
            self.first_text_at = time.perf_counter()
        self._parts.append(delta)
        # Before a block is sent: the turn's end may be on record already, with those that were sent until then.
        self._watch()
        for index, block in self._scanner.feed(delta) if self._scanner else ():
            if not self._emit(index, block):
                self._scanner = None
                break
            self.blocks.append(block)

    def tick(self) -> None:
        self._watch()

    def plain(self) -> None:
        """For a reply that is agreed to be plain text: it has no blocks before it is whole."""
        self._scanner = None

    def restart(self) -> None:
        """For another reply in place of this one: only as long as no block has been sent."""
        if self.blocks:
            raise RuntimeError("blocks have been sent")
        if self._scanner:
            self._scanner = Scanner()
        self._parts = []
