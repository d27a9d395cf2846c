"""What the background worker does. A new job is one line in jobs()."""

import time
import uuid
from collections.abc import Callable
from datetime import datetime

from audit.partitions import partitions_make
from audit.retention import purge_run
from audit.sealing import Sealer
from chat.leftovers import leftovers_sweep
from chat.recording import retention
from chat.streaming.services import streams_sweep
from flags import snapshot
from flags.change_services import changes_apply_due
from flags.rollout_services import rollout_look, rollouts_running
from flags.rollouts import LOOK_SECONDS
from ops.arms import arms_read
from ops.worker import Job

KEYS_SECONDS = 3600.0


def jobs(stopping: Callable[[], bool] = lambda: False) -> list[Job]:
    """`stopping` is asked by jobs that may take long."""
    return [
        Job("rollouts", LOOK_SECONDS, rollouts_look),
        Job("changes", 5, changes_apply_due),
        Job("streams", 10, StreamSweep()),
        Job("sealing", 2, Sealer()),
        Job("retention", 300, Retention(stopping)),
        Job("leftovers", 600, leftovers_sweep),
    ]


def rollouts_look() -> None:
    """Every running rollout, also when the look at another one fails; the failures rise together."""
    failures: list[Exception] = []
    for rollout in rollouts_running():
        try:
            rollout_look(rollout_id=rollout.pk, measured=arms_read(rollout))
        except Exception as error:  # noqa: BLE001  (risen below, with those of the other rollouts)
            failures.append(error)
    if failures:
        raise ExceptionGroup("looks at rollouts failed", failures)


class StreamSweep:
    """Beside the sweepers of the web workers: also when none of them is left. Keeps what was silent at the last run."""

    def __init__(self) -> None:
        self._silent: dict[uuid.UUID, datetime] = {}

    def __call__(self) -> None:
        self._silent = streams_sweep(self._silent)


class Retention:
    """The next days' partitions, and what has expired. All keys are looked at hourly: it takes a look at each."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        self._keys_at = 0.0

    def __call__(self) -> None:
        try:
            partitions_make(retention=retention(snapshot.current()))
        finally:
            # Whatever keeps the next days from being made must not keep what has expired.
            self._purge()

    def _purge(self) -> None:
        keys = time.monotonic() >= self._keys_at
        purged = purge_run(stop=self._stopping, keys=keys)
        if keys and purged.finished:
            self._keys_at = time.monotonic() + KEYS_SECONDS
