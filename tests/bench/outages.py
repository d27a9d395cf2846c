"""What outages cost: `python -m tests.bench.outages [--seconds 10] [--only redis-stopped ...]` prints one row a fault.

Conversations with follow-ups go on the whole time (tests/load.py) against gunicorn with two workers, PostgreSQL, Redis
and MongoDB, and a model server that answers at once. Times are compared with the healthy stretch of the same run.
"""

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from redis import Redis

from tests.load import Figures, Kept, Load, figures, kept
from tests.model_server import MODEL, ModelServer
from tests.services.gunicorn import Gunicorn, gunicorn_start
from tests.services.mongo import MongoServer, mongo_start
from tests.services.postgres import PostgresServer, postgres_start
from tests.services.proxy import Proxy
from tests.services.redis import RedisServer, redis_start

# The breaker opens at the first failure; what was under way then has waited its timeout.
BREAKER_SECONDS = 1.0
RECOVERY_SECONDS = 4.0
RECORDED = """
import json, sys
from audit.selectors import content_read, contents_last
questions = {
    session_id: [content_read(row)["question"] for row in contents_last(session_id, 1000)]
    for session_id in sys.stdin.read().split()
}
print(json.dumps(questions))
"""


@dataclass
class Stage:
    """All that takes part. The product reaches Redis and MongoDB through the proxies."""

    postgres: PostgresServer
    redis: RedisServer
    mongo: MongoServer
    redis_network: Proxy
    mongo_network: Proxy
    model: ModelServer
    server: Gunicorn

    def flag(self, **values: object) -> None:
        lines = [
            f"flag_set(key={key!r}, value={value!r}, actor_ref='', reason='outage', source='bench')"
            for key, value in values.items()
        ]
        self.server.shell("\n".join(["from flags.services import flag_set", *lines]))


@contextmanager
def staged(*, limit_files: bool = False) -> Iterator[Stage]:
    with ExitStack() as stack:
        postgres = postgres_start()
        stack.callback(postgres.stop)
        redis = redis_start()
        stack.callback(lambda: redis.stop())
        mongo = mongo_start(mine=True)
        stack.callback(mongo.stop)
        redis_network, mongo_network = Proxy(redis.port), Proxy(mongo.port)
        stack.callback(redis_network.stop)
        stack.callback(mongo_network.stop)
        model = ModelServer().start()
        stack.callback(model.stop)
        model.reply("echo")
        server = gunicorn_start(
            {
                "REDIS_URL": f"redis://127.0.0.1:{redis_network.port}/0",
                "MONGO_URL": mongo.url.replace(f":{mongo.port}", f":{mongo_network.port}"),
                "LLM_PROVIDER": "openai",
                "LLM_BASE_URL": model.url,
                "LLM_MODEL": MODEL,
                "RATE_LIMIT_PER_USER": "100000",
                "FEATURE_SUGGESTED_ACTIONS": "0",
                "LOG_LEVEL": "WARNING",
            },
            database_url=postgres.database_create(),
        )
        stack.callback(server.stop)
        yield Stage(postgres, redis, mongo, redis_network, mongo_network, model, server)


Fault = Callable[[Stage, float], None]


def redis_killed(stage: Stage, seconds: float) -> None:
    stage.redis.kill()
    time.sleep(seconds)
    stage.redis.restart()


def redis_stopped(stage: Stage, seconds: float) -> None:
    stage.redis.pause()
    time.sleep(seconds)
    stage.redis.resume()


def redis_flushed(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        stage.redis.flush()
        time.sleep(0.5)


def redis_disk_full(stage: Stage, seconds: float) -> None:
    """A limit on the size of files stands in for the disk: Redis then refuses writes (MISCONF) and goes on reading."""
    with Redis(port=stage.redis.port) as client:
        client.config_set("appendfsync", "always")
        client.config_set("appendonly", "yes")
        time.sleep(0.5)
        resource.prlimit(stage.redis.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        time.sleep(seconds)
        resource.prlimit(
            stage.redis.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )


def redis_slow(stage: Stage, seconds: float) -> None:
    _networked(stage.redis_network, "slow", seconds)


def redis_silent(stage: Stage, seconds: float) -> None:
    _networked(stage.redis_network, "silent", seconds)


def redis_reset(stage: Stage, seconds: float) -> None:
    _networked(stage.redis_network, "reset", seconds)


def mongo_killed(stage: Stage, seconds: float) -> None:
    stage.mongo.kill()
    time.sleep(seconds)
    stage.mongo.restart()


def mongo_stopped(stage: Stage, seconds: float) -> None:
    stage.mongo.pause()
    time.sleep(seconds)
    stage.mongo.resume()


def mongo_silent(stage: Stage, seconds: float) -> None:
    _networked(stage.mongo_network, "silent", seconds)


def _networked(network: Proxy, mode: str, seconds: float) -> None:
    network.become(mode, 0.5)  # type: ignore[arg-type]
    time.sleep(seconds)
    network.become("pass")


def primary_switched(stage: Stage, seconds: float) -> None:
    for name in ("mongo", "database", "redis", "mongo", "redis"):
        stage.flag(CONV_STORE_PRIMARY=name)
        time.sleep(seconds / 5)


def dual_write_switched(stage: Stage, seconds: float) -> None:
    for on in (True, False, True, False):
        stage.flag(CONV_DUAL_WRITE=on)
        time.sleep(seconds / 4)


def workers_killed(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        killed = stage.server.kill(0)
        stage.server.wait_workers(without=killed)
        time.sleep(0.5)


def connections_ended(stage: Stage, seconds: float) -> None:
    until = time.monotonic() + seconds
    name = stage.server.env["DATABASE_URL"].rpartition("/")[2]
    while time.monotonic() < until:
        with stage.postgres.connect() as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND state = 'idle'", [name]
            )
        time.sleep(1)


# Each with the store that is primary meanwhile.
FAULTS: dict[str, tuple[str, Fault]] = {
    "redis-killed": ("redis", redis_killed),
    "redis-stopped": ("redis", redis_stopped),
    "redis-flushed": ("redis", redis_flushed),
    "redis-disk-full": ("redis", redis_disk_full),
    "redis-slow": ("redis", redis_slow),
    "redis-silent": ("redis", redis_silent),
    "redis-reset": ("redis", redis_reset),
    "mongo-killed": ("mongo", mongo_killed),
    "mongo-stopped": ("mongo", mongo_stopped),
    "mongo-silent": ("mongo", mongo_silent),
    "primary-switched": ("redis", primary_switched),
    "dual-write-switched": ("redis", dual_write_switched),
    "workers-killed": ("redis", workers_killed),
    "connections-ended": ("redis", connections_ended),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What one fault cost: the stretch before it, all of it, all of it but the breaker's first second, and after."""

    name: str
    healthy: Figures
    during: Figures
    settled: Figures
    after: Figures
    kept: Kept
    gave_up: int


def measure(
    stage: Stage,
    name: str,
    *,
    seconds: float,
    healthy_seconds: float,
    recovery_seconds: float = RECOVERY_SECONDS,
) -> Row:
    primary, fault = FAULTS[name]
    # FerretDB over SQLite reads its whole collection for each query: what earlier faults left would slow this one.
    stage.mongo.flush()
    stage.flag(CONV_STORE_PRIMARY=primary)
    with Load(stage.server) as load:
        time.sleep(1)
        began = time.monotonic()
        time.sleep(healthy_seconds)
        broken = time.monotonic()
        fault(stage, seconds)
        mended = time.monotonic()
        time.sleep(recovery_seconds)
    return Row(
        name,
        figures(load.asked, began, broken),
        figures(load.asked, broken, mended),
        figures(load.asked, broken + BREAKER_SECONDS, mended),
        figures(load.asked, mended),
        kept(load.conversations, recorded(stage, [c.session_id for c in load.conversations])),
        len(load.gave_up),
    )


def recorded(stage: Stage, sessions: list[str]) -> Callable[[str], list[str]]:
    """The questions on record of each session, read by the product's own code in one process."""
    found = json.loads(stage.server.shell(RECORDED, given="\n".join(sessions)))
    return lambda session_id: found.get(session_id, [])


HEAD = ("fault", "turns", "lost", "twice", "order", "context", "5xx", "p95 ms", "p95 then", "worst", "after")


def cells(row: Row) -> tuple[str, ...]:
    follow_ups = row.healthy.follow_ups + row.during.follow_ups + row.after.follow_ups
    parts = (row.healthy, row.during, row.after)
    share = sum(part.context_share * part.follow_ups for part in parts) / max(follow_ups, 1)
    requests = sum(part.requests for part in parts)
    return (
        row.name,
        str(row.kept.answered),
        str(row.kept.lost),
        str(row.kept.doubled),
        str(row.kept.disordered),
        f"{share:.2%}",
        f"{sum(part.errors_5xx for part in parts) / max(requests, 1):.2%}",
        f"{row.healthy.p95 * 1000:.0f}",
        f"{row.settled.p95 * 1000:.0f}",
        f"{row.settled.worst * 1000:.0f}",
        f"{row.after.p95 * 1000:.0f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="length of each fault (default 10)")
    parser.add_argument("--healthy", type=float, default=5, help="seconds of healthy load before it")
    parser.add_argument("--only", nargs="*", choices=FAULTS, default=list(FAULTS))
    options = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    form = "{:20} {:>6} {:>5} {:>6} {:>6} {:>8} {:>6} {:>8} {:>9} {:>7} {:>7}"
    with staged() as stage:
        print(form.format(*HEAD))
        for name in options.only:
            row = measure(stage, name, seconds=options.seconds, healthy_seconds=options.healthy)
            print(form.format(*cells(row)), flush=True)


if __name__ == "__main__":
    main()
