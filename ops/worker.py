"""The background process: as long as it leads, each job runs at its period, in a thread of its own.

A thread each, because a job that waits for a lock or a slow disk must not keep a rollout from being taken back.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from django.db import connection
from prometheus_client import Counter, Gauge, Histogram

from ops.leader import Leadership

log = structlog.get_logger(__name__)
# A third of the lease, so that one renewal may fail.
BEAT_SECONDS = 5.0
# Less than an orchestrator waits before it kills.
STOP_SECONDS = 25.0

JOB_SECONDS = Histogram("onesource_worker_job_seconds", "How long a job of the background worker took", ["job"])
JOB_FAILURES = Counter("onesource_worker_job_failures_total", "Runs of a job that ended in an exception", ["job"])
LEADER = Gauge("onesource_worker_leader", "1 where the leading worker runs", multiprocess_mode="livesum")


@dataclass(frozen=True, slots=True)
class Job:
    """`run` is called every `period_seconds`; what it raises is logged, counted, and stops nothing."""

    name: str
    period_seconds: float
    run: Callable[[], object]


class Worker:
    """`parent` is the pid of a process that this one must not outlive; `stop` is given by whoever lets the jobs ask it
    as well."""

    def __init__(
        self,
        jobs: Sequence[Job],
        leadership: Leadership,
        *,
        beat_seconds: float = BEAT_SECONDS,
        parent: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._parent = parent
        self._jobs = jobs
        self._leadership = leadership
        self._beat_seconds = beat_seconds
        self._leading = threading.Event()
        self._stop = stop or threading.Event()

    def stop(self) -> None:
        """From a signal handler or another thread: the jobs at hand are finished, then run() returns."""
        self._stop.set()

    def run(self) -> None:
        threads = [threading.Thread(target=self._repeat, args=(job,), name=job.name, daemon=True) for job in self._jobs]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set() and self._parent in (None, os.getppid()):
                self._beat()
                self._stop.wait(self._beat_seconds)
        finally:
            self._stop.set()
            until = time.monotonic() + STOP_SECONDS
            for thread in threads:
                thread.join(max(until - time.monotonic(), 0))
            self._lead(False)
            self._leadership.release()
            connection.close()

    def _beat(self) -> None:
        try:
            self._lead(self._leadership.hold())
        finally:
            connection.close()

    def _lead(self, leading: bool) -> None:
        LEADER.set(int(leading))
        if leading == self._leading.is_set():
            return
        (self._leading.set if leading else self._leading.clear)()
        log.info("worker.leads" if leading else "worker.follows")

    def _repeat(self, job: Job) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            if self._leading.is_set():
                job_run(job)
            # From start to start; one that takes longer than its period runs again at once.
            self._stop.wait(
                max(job.period_seconds - (time.monotonic() - started), 0.05) if self._leading.is_set() else 0.2
            )


def job_run(job: Job) -> bool:
    """One run; False when it failed."""
    try:
        with JOB_SECONDS.labels(job.name).time():
            job.run()
    except Exception as error:
        JOB_FAILURES.labels(job.name).inc()
        log.error("worker.job_failed", job=job.name, exc_info=error)
        return False
    finally:
        connection.close()
    return True
