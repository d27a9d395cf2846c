"""Refused API tokens go on record, so many a minute and process: a flood of garbage must not fill the trail."""

import threading
import time

import structlog
from django import db
from django.db import transaction
from prometheus_client import Counter

from audit import actions
from audit.selectors import subject_ref_held
from audit.services import event_record

log = structlog.get_logger(__name__)
RECORDED_A_MINUTE = 10
MINUTE = 60.0

REFUSALS = Counter("onesource_token_refusals_total", "Requests with an API token that was refused", ["cause"])
UNRECORDED = Counter(
    "onesource_token_refusals_unrecorded_total", "Those of them that left no event of their own", ["why"]
)


class Allowance:
    """How many refusals may still go on record in the minute at hand, and how many did not since the last that did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self._minute_ends = 0.0
        self._left = 0
        self._suppressed = 0

    def take(self) -> int | None:
        """The number suppressed before this one; None when it is to be suppressed too."""
        with self._lock:
            now = time.monotonic()
            if now >= self._minute_ends:
                self._minute_ends, self._left = now + MINUTE, RECORDED_A_MINUTE
            if not self._left:
                self._suppressed += 1
                return None
            self._left -= 1
            suppressed, self._suppressed = self._suppressed, 0
            return suppressed

    def give_back(self, suppressed: int) -> None:
        """The event could not be written: the next one counts this refusal as well."""
        with self._lock:
            self._suppressed += suppressed + 1


ALLOWANCE = Allowance()


def refusal_record(*, cause: str, token: str, user_id: int | None = None) -> None:
    """`token` is the keyed hash of what was sent, `user_id` its owner's if it is one's.

    A trail that cannot be written is logged and counted; the caller is refused all the same.
    """
    REFUSALS.labels(cause).inc()
    suppressed = ALLOWANCE.take()
    if suppressed is None:
        UNRECORDED.labels("limit").inc()
        return
    try:
        with transaction.atomic():
            for_ref = subject_ref_held(user_id) if user_id else ""
            facts = {"cause": cause, "token": token, "for_ref": for_ref, "suppressed": suppressed}
            event_record(kind=actions.TOKEN_REFUSED, stream="auth", actor_ref="", facts=facts)
    except db.Error as error:
        ALLOWANCE.give_back(suppressed)
        UNRECORDED.labels("failed").inc()
        log.error("token.refusal_unrecorded", cause=type(error).__name__)
