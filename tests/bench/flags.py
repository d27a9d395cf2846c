"""How quick flags are: `python -m tests.bench.flags [read|propagation]`."""

import argparse
import os
import statistics
import sys
import time
import timeit
from contextlib import ExitStack

import django

from tests.flag_changes import WAYS, changing
from tests.services.gunicorn import gunicorn_start
from tests.services.postgres import postgres_start

CHANGES = 102


def read() -> None:
    """One look at a flag of a snapshot that is at hand, against an empty function call."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onesource.settings")
    django.setup()
    from flags.snapshot import CohortRule, Rules, Snapshot, Subject

    subject = Subject("5f0c1f6c7a3b4d0e9a1b2c3d4e5f6a7b", 5)
    rules = Rules(cohorts={"USE_UNIFIED_PIPELINE": CohortRule(everyone=True)}, values={"CONV_DUAL_WRITE": False})
    snapshot = Snapshot(1, time.monotonic(), {}, rules)
    share = Snapshot(
        1, time.monotonic(), {}, Rules(cohorts={"USE_UNIFIED_PIPELINE": CohortRule(None, rollout_bp=5000, salt="salt")})
    )
    cases = {
        "empty call": lambda: None,
        "switch": lambda: snapshot.boolean("CONV_DUAL_WRITE"),
        "cohort flag, for everyone": lambda: snapshot.boolean("USE_UNIFIED_PIPELINE", subject),
        "cohort flag, by share": lambda: share.boolean("USE_UNIFIED_PIPELINE", subject),
        "setting": lambda: snapshot.number("CONV_MAX_TURNS"),
    }
    base = 0.0
    for name, case in cases.items():
        seconds = min(timeit.repeat(case, number=100_000, repeat=5)) / 100_000
        base = base or seconds
        print(f"{name:28} {seconds * 1e6:6.2f} us  {seconds / base:5.1f} x")


def propagation() -> None:
    with ExitStack() as stack:
        postgres = postgres_start()
        stack.callback(postgres.stop)
        for name, url in (("SQLite", None), ("PostgreSQL", postgres.database_create())):
            server = gunicorn_start({}, workers=4, database_url=url)
            stack.callback(server.stop)
            with changing(server) as changes:
                taken = []
                for number in range(CHANGES):
                    way, value = WAYS[number % len(WAYS)]
                    changes.change(way)
                    taken.append(changes.seconds_until(value))
            p99 = statistics.quantiles(taken, n=100)[98]
            middle = statistics.median(taken)
            print(f"{name:12} {len(taken)} changes  median {middle:.3f} s  p99 {p99:.3f} s  longest {max(taken):.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.flags", description=__doc__)
    parser.add_argument("part", nargs="*", choices=("read", "propagation"), default=("read", "propagation"))
    for part in parser.parse_args().part:
        {"read": read, "propagation": propagation}[part]()


if __name__ == "__main__":
    sys.exit(main())
