"""A long trail is shared among processes, and comes out as it does in one."""

import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from audit import actions, stretches
from audit.models import Event
from audit.sealing import log_seal
from audit.services import event_record
from audit.stretches import Finding
from audit.verification import log_verify
from onesource.processes import process_pool
from tests.tampering import tamper

EVENTS, CHUNK, BACK = 700, 100, 400
# Reaches the visitor, which runs in new processes.
PIDS = "TEST_STRETCHES_PIDS"


@pytest.fixture
def trail(transactional_db, monkeypatch):
    """Seven stretches and a bit; the first event of one lies two hours before the last of the one before it."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite is read by one process")
    monkeypatch.setattr(stretches, "CHUNK", CHUNK)
    monkeypatch.setattr(stretches, "WORTH_PROCESSES", 0)
    for number in range(Event.objects.count(), EVENTS):
        at = timezone.now() - timedelta(hours=2 * (number == BACK))
        event_record(kind=actions.LOGIN_SUCCEEDED, stream=f"s{number % 3}", actor_ref="a" * 32, facts={}, at=at)
    log_seal()
    assert told(2)[0] == EVENTS + 1


def told(processes):
    report = log_verify(processes=processes, visitor=odd_ones)
    return report.events, sorted((finding.code, finding.where, finding.detail) for finding in report.findings)


def odd_ones(rows):
    """Found by its name in another process, and tells which that is."""
    if path := os.environ.get(PIDS):
        with Path(path).open("a", encoding="ascii") as file:
            print(os.getpid(), file=file)
        time.sleep(0.3)
    return [Finding("odd", row.uid, body["kind"]) for row, body in rows if row.stream_seq == 77]


def test_processes_find_what_one_finds(trail):
    event = {number: Event.objects.get(log_leaf__index=number).pk for number in (0, 99, 100, 350)}
    tamper("UPDATE audit_event SET kind = 'login.failed' WHERE id IN (%s, %s)", event[0], event[99])
    tamper("DELETE FROM audit_event WHERE id = %s", event[100])
    tamper("UPDATE audit_leaf SET hash = %s WHERE event_id = %s", b"short", event[350])
    # A whole stretch, and the end.
    tamper('DELETE FROM audit_leaf WHERE "index" BETWEEN 200 AND 299 OR "index" = %s', EVENTS)
    one = told(1)
    assert told(2) == one
    codes = {code for code, _, _ in one[1]}
    assert codes >= {"column_edited", "event_deleted", "leaf_edited", "log_truncated", "odd", "out_of_time"}
    assert ("leaf_missing", "leaf 200", "the log goes on at leaf 300") in one[1]


def test_a_process_that_is_killed_leaves_nothing_out(trail, tmp_path, monkeypatch):
    one = told(1)
    path = tmp_path / "pids"
    path.touch()

    def pids() -> set[int]:
        return {int(line) for line in path.read_text(encoding="ascii").splitlines(keepends=True) if line.endswith("\n")}

    def kill() -> None:
        until = time.monotonic() + 60
        while not (others := pids() - {os.getpid()}) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in others:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    monkeypatch.setenv(PIDS, str(path))
    assert told(2) == one
    assert pids() - {os.getpid()}
    # What was left was done here.
    assert os.getpid() in pids()


def test_what_is_sealed_meanwhile_is_not_missing(trail):
    calls = []

    def progress(events: int) -> None:
        calls.append(events)
        if len(calls) <= EVENTS // CHUNK:
            event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="a" * 32, facts={})
            log_seal()

    report = log_verify(processes=2, progress=progress)
    assert {finding.code for finding in report.findings} == {"out_of_time"}
    assert (report.ok, sum(calls)) == (True, report.events)
    assert report.events >= EVENTS + 1 + EVENTS // CHUNK


@pytest.mark.parametrize("place", [2**40, 2**63 - 1, -1])
def test_a_leaf_far_off_keeps_nobody_waiting(trail, place):
    event = event_record(kind=actions.LOGIN_SUCCEEDED, stream="s0", actor_ref="a" * 32, facts={})
    tamper('INSERT INTO audit_leaf ("index", event_id, hash) VALUES (%s, %s, %s)', place, event.pk, event.leaf)
    one = told(1)
    assert told(2) == one
    assert {code for code, _, _ in one[1]} & {"leaf_missing", "leaf_edited"}


def test_a_statement_may_take_longer_than_one_of_a_request(trail):
    """As in the command that waits for it."""
    with process_pool(1) as pool:
        assert pool.submit(statement_timeout).result() == "0"
    assert statement_timeout() != "0"


def statement_timeout() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return str(cursor.fetchone()[0])
