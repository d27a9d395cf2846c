"""What the background worker does. A new job is one line in jobs()."""

import uuid
from datetime import datetime

from audit.sealing import Sealer
from chat.streaming.services import streams_sweep
from flags.change_services import changes_apply_due
from flags.rollout_services import rollout_look, rollouts_running
from flags.rollouts import LOOK_SECONDS
from ops.arms import arms_read
from ops.worker import Job


def jobs() -> list[Job]:
    return [
        Job("rollouts", LOOK_SECONDS, rollouts_look),
        Job("changes", 5, changes_apply_due),
        Job("streams", 10, StreamSweep()),
        Job("sealing", 2, Sealer()),
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
