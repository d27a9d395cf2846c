"""Turns the text of a reply, while it comes, into the blocks that are closed and valid."""

import time
from collections.abc import Callable
from typing import Any

from chat.guard.scanner import BlockScanner
from chat.providers.base import TextSink

BlockEmitter = Callable[[int, dict[str, Any]], None]


class StreamEnded(Exception):
    """Somebody asked for the end of the stream, or nobody watches it any more."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BlockSink(TextSink):
    """`emit` gets each block once, in order, and none is ever taken back; `watch` raises StreamEnded."""

    def __init__(self, *, emit: BlockEmitter, watch: Callable[[], None]) -> None:
        self._emit = emit
        self._watch = watch
        self._scanner = BlockScanner()
        self._parts: list[str] = []
        self.blocks: list[dict[str, Any]] = []
        self.first_text_at: float | None = None

    @property
    def received(self) -> str:
        return "".join(self._parts)

    def text(self, delta: str) -> None:
        if self.first_text_at is None:
            self.first_text_at = time.perf_counter()
        self._watch()
        self._parts.append(delta)
        for index, block in self._scanner.feed(delta):
            self.blocks.append(block)
            self._emit(index, block)

    def tick(self) -> None:
        self._watch()

    def restart(self) -> None:
        """For another provider's reply: only as long as no block has been given out."""
        if self.blocks:
            raise RuntimeError("blocks have been given out")
        self._scanner = BlockScanner()
        self._parts = []
