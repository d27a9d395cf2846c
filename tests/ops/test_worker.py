"""The background worker: its jobs, its leader, and that another takes over when the leader is killed."""

import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from django.db.models.functions import Now
from prometheus_client import REGISTRY

from audit.models import TurnContent
from flags.guarded import GuardedRollout
from flags.models import Flag
from flags.rollout_services import rollout_start
from flags.services import flag_set
from ops.jobs import Retention, jobs, rollouts_look
from ops.leader import LEASE_SECONDS, Leadership, Lease, leadership
from ops.models import WorkerLease
from ops.worker import Job, Worker
from tests.audit.contents import stored
from tests.environment import ROOT
from tests.ops.turns import KEY, failures_make, turns_make
from tests.services.gunicorn import database_prepared, shell
from tests.services.process import Process, free_port, process_start, service_directory


def wait(ready: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not ready() and time.monotonic() < until:
        time.sleep(0.02)
    return ready()


# Jobs


class Given(Leadership):
    """Leads when told to."""

    def __init__(self, leads: bool) -> None:
        self.leads = leads

    def hold(self) -> bool:
        return self.leads

    def release(self) -> None:
        self.leads = False


@pytest.fixture
def working() -> Iterator[Callable[..., Worker]]:
    """working(jobs, leadership) runs a worker in a thread until the test ends."""
    running: list[tuple[Worker, threading.Thread]] = []

    def start(jobs: list[Job], leads: Leadership) -> Worker:
        worker = Worker(jobs, leads, beat_seconds=0.05)
        thread = threading.Thread(target=worker.run)
        thread.start()
        running.append((worker, thread))
        return worker

    yield start
    for worker, thread in running:
        worker.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_job_that_fails_or_hangs_stops_no_other_and_is_counted(working: Callable[..., Worker]) -> None:
    ran: list[str] = []
    release = threading.Event()

    def fail() -> None:
        ran.append("fails")
        raise ValueError("as always")

    before = REGISTRY.get_sample_value("onesource_worker_job_failures_total", {"job": "fails"}) or 0
    jobs = [
        Job("fails", 0.05, fail),
        Job("hangs", 0.05, lambda: release.wait(10)),
        Job("works", 0.05, lambda: ran.append("works")),
    ]
    working(jobs, Given(True))
    assert wait(lambda: ran.count("works") >= 3 and ran.count("fails") >= 3)
    release.set()
    assert (REGISTRY.get_sample_value("onesource_worker_job_failures_total", {"job": "fails"}) or 0) >= before + 3
    assert (REGISTRY.get_sample_value("onesource_worker_job_seconds_count", {"job": "works"}) or 0) >= 3


def test_only_the_leader_works(working: Callable[..., Worker]) -> None:
    ran: list[int] = []
    given = Given(False)
    working([Job("counts", 0.05, lambda: ran.append(1))], given)
    time.sleep(0.5)
    assert ran == []
    assert REGISTRY.get_sample_value("onesource_worker_leader") == 0
    given.leads = True
    assert wait(lambda: len(ran) >= 2)
    assert REGISTRY.get_sample_value("onesource_worker_leader") == 1
    given.leads = False
    assert wait(lambda: REGISTRY.get_sample_value("onesource_worker_leader") == 0)
    time.sleep(0.1)
    before = len(ran)
    time.sleep(0.4)
    assert len(ran) == before


def test_a_worker_that_is_told_to_stop_finishes_the_job_at_hand() -> None:
    begun, done = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        time.sleep(0.3)
        done.set()

    given = Given(True)
    worker = Worker([Job("slow", 60, slow)], given, beat_seconds=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert begun.wait(5)
    worker.stop()
    thread.join(5)
    assert (done.is_set(), given.leads, thread.is_alive()) == (True, False, False)


def test_every_job_has_a_name_and_a_period() -> None:
    assert {job.name: job.period_seconds for job in jobs()} == {
        "rollouts": 10,
        "changes": 5,
        "streams": 10,
        "sealing": 2,
        "retention": 300,
        "leftovers": 600,
    }


@pytest.mark.django_db(transaction=True)
def test_partitions_that_cannot_be_made_keep_nothing_from_being_purged(monkeypatch: pytest.MonkeyPatch) -> None:
    stored(expired=timedelta(days=40))

    def fail(**given: object) -> None:
        raise OperationalError("as always")

    monkeypatch.setattr("ops.jobs.partitions_make", fail)
    with pytest.raises(OperationalError, match="as always"):
        Retention(lambda: False)()
    assert not TurnContent.objects.exists()


# Rollouts, from the record of the turns to the flag


def trip_ready(key: str = KEY) -> GuardedRollout:
    flag_set(key=key, value=False, actor_ref="", reason="", source="tests")
    rollout = rollout_start(key=key, actor_ref="", reason="a trial", source="tests")
    GuardedRollout.objects.update(started_at=Now() - timedelta(minutes=1))
    return rollout


@pytest.mark.django_db
def test_bad_turns_of_the_canary_take_the_flag_back() -> None:
    rollout = trip_ready()
    turns_make(270, canary=True)
    turns_make(30, canary=True, outcome="degraded")
    turns_make(3000, canary=False)
    rollouts_look()
    rollout.refresh_from_db()
    assert (rollout.state, rollout.suspect, rollout.looks[-1]["canary"]) == ("running", True, [300, 30])
    GuardedRollout.objects.update(looked_at=Now() - timedelta(seconds=10))
    rollouts_look()
    rollout.refresh_from_db()
    assert (rollout.state, Flag.objects.get(name=KEY).rollout_bp) == ("tripped", 0)


@pytest.mark.django_db
def test_a_canary_that_crashes_is_taken_back_at_the_first_look() -> None:
    rollout = trip_ready()
    failures_make(300, canary=True)
    turns_make(3000, canary=False)
    rollouts_look()
    rollout.refresh_from_db()
    assert rollout.state == "tripped"
    assert rollout.end_reason.startswith("300 of 300 turns of the canary got no answer")


@pytest.mark.django_db
def test_a_rollout_whose_look_fails_does_not_keep_the_next_from_its_own() -> None:
    broken = trip_ready("FEATURE_DYNAMIC_PROMPTS")
    fine = trip_ready()
    GuardedRollout.objects.filter(pk=broken.pk).update(looks=5)
    with pytest.raises(ExceptionGroup):
        rollouts_look()
    fine.refresh_from_db()
    assert len(fine.looks) == 1


# Leadership


@pytest.fixture
def two(transactional_db: None) -> Iterator[tuple[Leadership, Leadership]]:
    """As the database of this run has it: an advisory lock on PostgreSQL, a lease on SQLite."""
    pair = leadership("tests"), leadership("tests")
    yield pair
    for one in pair:
        one.release()


def test_one_of_two_leads_until_it_lets_go(two: tuple[Leadership, Leadership]) -> None:
    one, other = two
    assert [one.hold(), other.hold(), one.hold(), other.hold()] == [True, False, True, False]
    one.release()
    assert [other.hold(), one.hold()] == [True, False]


def test_leaders_of_different_things_do_not_meet(two: tuple[Leadership, Leadership]) -> None:
    other = leadership("something else")
    try:
        assert (two[0].hold(), other.hold()) == (True, True)
    finally:
        other.release()


def test_a_lease_that_is_not_renewed_runs_out(db: None) -> None:
    one, other = Lease("tests"), Lease("tests")
    assert (one.hold(), other.hold()) == (True, False)
    left = WorkerLease.objects.values_list("until", flat=True).get(name="tests")
    WorkerLease.objects.update(until=Now() - timedelta(seconds=1))
    assert (other.hold(), one.hold()) == (True, False)
    renewed = WorkerLease.objects.values_list("until", flat=True).get(name="tests")
    assert abs((renewed - left).total_seconds()) < LEASE_SECONDS


def test_a_leader_whose_session_was_ended_knows(two: tuple[Leadership, Leadership]) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("advisory locks are PostgreSQL's")
    one, other = two
    assert one.hold()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database d ON d.oid = database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
    assert wait(lambda: other.hold())
    assert one.hold() is False
    assert one.hold() is False


# Real processes


@pytest.fixture(params=["postgresql", "sqlite"])
def own_database(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return database_prepared()
    return database_prepared(request.getfixturevalue("postgres_server").database_create())


@pytest.fixture
def workers(own_database: dict[str, str]) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def start() -> Process:
        command = [sys.executable, "manage.py", "worker"]
        process = process_start("worker", command, directory=service_directory("worker"), cwd=ROOT, env=own_database)
        started.append(process)
        return process

    yield start
    for process in started:
        process.stop()


SCHEDULE = """
from datetime import timedelta
from pathlib import Path
from django.utils import timezone
from flags.change_services import change_request
change_request(key="CONV_MAX_TURNS", change={"value": 7}, actor_ref="", reason="a test",
               scheduled_for=timezone.now() + timedelta(seconds=2))
"""
VALUE = "from flags.models import Setting; print(Setting.objects.get(key='CONV_MAX_TURNS').value_json)"


def leads(process: Process) -> bool:
    told = [line for line in process.output().splitlines() if "worker.leads" in line or "worker.follows" in line]
    return bool(told) and "worker.leads" in told[-1]


def test_a_killed_leader_is_replaced_and_a_stopped_one_leaves_at_once(
    own_database: dict[str, str], workers: Callable[[], Process]
) -> None:
    pair = [workers(), workers()]
    assert wait(lambda: any(leads(process) for process in pair), 30)
    time.sleep(1)
    (leader,) = [process for process in pair if leads(process)]
    (other,) = [process for process in pair if process is not leader]
    leader.popen.kill()
    assert wait(lambda: leads(other), LEASE_SECONDS + 15)
    shell(SCHEDULE, own_database)
    assert wait(lambda: shell(VALUE, own_database) == "7", 30)
    third = workers()
    wait(lambda: "worker" in third.output(), 5)
    other.popen.terminate()
    assert other.popen.wait(10) == 0
    assert wait(lambda: leads(third), 15)


def test_the_command_works_and_shows_its_metrics_until_it_is_told_to_stop(transactional_db: None) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    port = free_port()
    led: list[bool] = []

    def shown() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            return b"onesource_worker_leader 1.0" in page.read()
        return False

    def stop() -> None:
        led.append(wait(shown, seconds=20))
        os.kill(os.getpid(), signal.SIGTERM)

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        call_command("worker", "--metrics-port", str(port))
    finally:
        stopping.join()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert led == [True]


STARTER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "manage.py", "worker", "--with-parent"])
time.sleep(600)
"""


def test_a_worker_does_not_outlive_the_process_that_started_it(tmp_path: Path) -> None:
    """As gunicorn does with WITH_WORKER; killed, it can tell nobody."""
    env = database_prepared()
    starter = process_start(
        "starter", [sys.executable, "-c", STARTER], directory=service_directory("starter"), cwd=ROOT, env=env
    )
    assert wait(lambda: "worker.leads" in starter.output(), 60)
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children").read_text(encoding="utf-8").split()
    starter.popen.kill()
    starter.popen.wait()
    try:
        assert wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 30)
    finally:
        starter.stop()
