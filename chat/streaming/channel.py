"""The running streams of this process: what their producers have emitted, for the responses that show it here."""

import threading
import time
import uuid

from chat.streaming.buffer import Emitted

_channels: dict[uuid.UUID, "Channel"] = {}


class Channel:
    """Events of one stream in order. Used by its producer and by any number of responses, each in its own thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Emitted] = []
        self._closed = False
        self._watchers = 0
        self._left_at = time.monotonic()
        self.stop = threading.Event()

    def put(self, emitted: Emitted) -> None:
        with self._changed:
            self._events.append(emitted)
            self._changed.notify_all()

    def close(self) -> None:
        """No more events will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def after(self, n: int, *, seconds: float) -> tuple[list[Emitted], bool]:
        """The events with a number over `n`, waiting up to `seconds` for one, and whether there will be more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._events and self._events[-1].n > n), seconds)
            return [emitted for emitted in self._events if emitted.n > n], not self._closed

    def all(self) -> list[Emitted]:
        with self._changed:
            return list(self._events)

    def attach(self) -> None:
        with self._changed:
            self._watchers += 1

    def detach(self) -> None:
        with self._changed:
            self._watchers -= 1
            self._left_at = time.monotonic()

    def unwatched_seconds(self) -> float:
        with self._changed:
            return 0.0 if self._watchers else time.monotonic() - self._left_at


def channel_open(turn_id: uuid.UUID) -> Channel:
    channel = _channels[turn_id] = Channel()
    return channel


def channel_of(turn_id: uuid.UUID) -> Channel | None:
    """The channel when the stream's producer runs in this process."""
    return _channels.get(turn_id)


def channel_close(turn_id: uuid.UUID) -> None:
    channel = _channels.pop(turn_id, None)
    if channel:
        channel.close()
