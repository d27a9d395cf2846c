"""Several stores written at once: to move from one to another, or to have a second that is warm."""

import random
import uuid
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from chat import metrics
from chat.stores.base import ConversationStore, Message, StoreAway, each, failure_log

log = structlog.get_logger(__name__)
# Of the loads that also read the others. Every write that only some stores took is counted anyway: what is left to find
# is what a store lost by itself, and that is found in minutes at one turn a second.
COMPARED_SHARE = 1 / 64


class DualStore(ConversationStore):
    """Reads `primary` and writes all. What becomes of one store never touches another; only a failure of the primary is
    one of the whole.
    """

    def __init__(
        self, primary: ConversationStore, *secondaries: ConversationStore, compared_share: float = COMPARED_SHARE
    ) -> None:
        self.primary, self.secondaries = primary, secondaries
        self.name = primary.name
        self._compared_share = compared_share

    def load(self, session_id: uuid.UUID, limit: int, *, upto: int | None = None) -> list[Message]:
        messages = self.primary.load(session_id, limit, upto=upto)
        if random.random() < self._compared_share:  # noqa: S311  (a sample, no secret)
            for store in self.secondaries:
                self._compare(store, session_id, messages, limit, upto)
        return messages

    def append(self, session_id: uuid.UUID, messages: Sequence[Message], *, keep: int, ttl_seconds: int) -> None:
        self._all("append", lambda store: store.append(session_id, messages, keep=keep, ttl_seconds=ttl_seconds))

    def replace(self, session_id: uuid.UUID, messages: Sequence[Message], *, upto: int, ttl_seconds: int) -> None:
        self._all("replace", lambda store: store.replace(session_id, messages, upto=upto, ttl_seconds=ttl_seconds))

    def delete(self, session_id: uuid.UUID) -> None:
        self._all("delete", lambda store: store.delete(session_id))

    def check(self) -> None:
        self.primary.check()

    def _all(self, op: str, act: Callable[[ConversationStore], None]) -> None:
        stores = (self.primary, *self.secondaries)
        failures = each([partial(act, store) for store in stores])
        for store, failure in zip(stores, failures, strict=True):
            if failure is None:
                continue
            if not all(failures):
                metrics.STORE_DIVERGENCE.labels(store.name, "write").inc()
            if store is not self.primary:
                failure_log(store, op, failure)
        if failures[0] is not None:
            raise failures[0]

    def _compare(
        self, store: ConversationStore, session_id: uuid.UUID, messages: list[Message], limit: int, upto: int | None
    ) -> None:
        try:
            others = store.load(session_id, limit, upto=upto)
        except StoreAway:
            return
        if others != messages:
            metrics.STORE_DIVERGENCE.labels(store.name, "read").inc()
            log.info("store.diverged", store=store.name, held=len(others), expected=len(messages))
