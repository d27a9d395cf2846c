"""Kills sealers and writers without warning, again and again: `python -m tests.audit.sealer_kills ROUNDS`.

Run on an empty database of its own, which DATABASE_URL or VAR_DIR names. Processes are forked from one that has Django
loaded, so that a round takes milliseconds. A process tells of each piece of work that it finished, and is killed a
random part of such a piece later. Prints what was left as JSON.
"""

import json
import os
import random
import signal
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta

WRITERS = 2
# Else they would keep the lock of SQLite to themselves.
PAUSE = 0.005


def main(rounds: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onesource.settings")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    random.seed(rounds)
    killed = {"sealer": 0, "writer": 0}
    writers = [Child(write) for _ in range(WRITERS)]
    for number in range(rounds):
        sealer = Child(seal)
        killed["sealer"] += sealer.kill()
        if number % 2:
            killed["writer"] += writers.pop(0).kill()
            writers.append(Child(write))
    for writer in writers:
        writer.kill()
    print(json.dumps(killed | left()))


class Child:
    """A process that does `work` over and over."""

    def __init__(self, work: Callable[[], None]) -> None:
        from django.db import connection

        connection.close()
        if connection.vendor == "postgresql":
            # Its threads do not come along into the child.
            connection.close_pool()
        self._told, telling = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(telling)
            return
        try:
            while True:
                work()
                os.write(telling, b".")
        finally:
            os._exit(3)

    def kill(self) -> int:
        """1 when it was alive until then; what else it died of is the run's failure."""
        for _ in range(random.randint(1, 3)):
            started = time.monotonic()
            assert os.read(self._told, 1), "it ended by itself"
        time.sleep(random.uniform(0, 2) * (time.monotonic() - started))
        os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        os.close(self._told)
        assert os.WIFSIGNALED(status), f"it ended by itself: {status}"
        return 1


def seal() -> None:
    from audit.publishing import checkpoints_publish
    from audit.sealing import SealingElsewhere, log_seal

    try:
        log_seal()
        checkpoints_publish()
    except SealingElsewhere:
        # The server has not noticed yet that the one before is dead.
        time.sleep(0.001)


def write() -> None:
    """What is recorded with a turn: an event, and content under the subject's key, in one transaction."""
    from django.db import transaction
    from django.utils import timezone

    from audit import actions
    from audit.services import content_store, event_record

    time.sleep(PAUSE)
    with transaction.atomic():
        event_record(kind=actions.LOGIN_SUCCEEDED, stream=f"s{os.getpid() % 3}", actor_ref="", facts={})
        content_store(
            turn_id=uuid.uuid4(), session_id=uuid.uuid4(), seq=1, subject_ref="a" * 32,
            payload={"question": "?"}, at=timezone.now(), retention=timedelta(days=30),
        )  # fmt: skip


def left() -> dict[str, object]:
    from audit.models import Checkpoint, Event, Leaf, TurnContent
    from audit.sealing import log_seal
    from audit.verification import log_verify

    log_seal()
    report = log_verify()
    return {
        "findings": [f"{finding.code} {finding.where}: {finding.detail}" for finding in report.findings],
        "events": Event.objects.count(),
        "written": TurnContent.objects.count(),
        "leaves": Leaf.objects.count(),
        "checkpoints": Checkpoint.objects.count(),
        "published": report.published,
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
