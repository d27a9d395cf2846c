"""Processes of one's own: on one's database, without a request's limits, and gone when one is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onesource.processes import process_pool, processes_sensible
from tests.environment import ROOT

WAITING = """
import os, time
import django
django.setup()
from onesource.processes import process_pool
pool = process_pool(2)
pool.submit(os.getpid).result()
waits = [pool.submit(time.sleep, 60) for _ in range(2)]
print(*pool._processes, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    try:
        return state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_they_end_with_the_one_that_made_them(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(map(alive, pids))
        parent.send_signal(number)
        parent.wait(10)
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_they_are_other_processes() -> None:
    with process_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
    assert 1 <= processes_sensible() <= 4
