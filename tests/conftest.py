import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from _pytest.runner import runtestprotocol
from django.conf import settings as django_settings
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import connection
from hypothesis import settings as hypothesis_settings
from pytest_django.plugin import blocking_manager_key

from audit.keys import _kept_keys
from audit.models import Event
from audit.triggers import triggers_install
from chat.api import throttles
from chat.idempotency import _held
from chat.pipeline import provide
from chat.providers import configured
from chat.refusals import ALLOWANCE
from chat.stores.conversation import hot_stores
from chat.stores.redis import BREAKER as REDIS_BREAKER
from flags import snapshot
from flags.registry import Value, registered
from flags.selectors import epoch_read, rules_read
from flags.services import _flushed, flag_set
from knowledge.index import snapshot_forget
from knowledge.services import pack_load
from onesource.postgresql.connection import DeadlineConnection
from onesource.redis import cache_settings
from ops.health import draining
from tests.cast import admin, anonymous, flag_manager, operator, owner, reviewer, stranger
from tests.model_server import MODEL, ModelServer
from tests.services import need
from tests.services.gunicorn import Gunicorn, gunicorn_start, gunicorns_stop, template_remove
from tests.services.mongo import MongoServer, mongo_start
from tests.services.postgres import PostgresServer, postgres_start
from tests.services.process import RUNNING
from tests.services.redis import RedisServer, redis_start
from tests.tampering import triggers_drop, triggers_dropped

# Fixtures are found by their names in this module.
__all__ = ["admin", "anonymous", "flag_manager", "operator", "owner", "reviewer", "stranger"]

OUTCOMES_VARIABLE = "TEST_OUTCOMES"
SECOND_TRY = "passed at the second try"
# Fixtures of tests whose processes do not use the database of the suite.
OWN_DATABASE = {"gunicorn_server", "own_database"}
# Machines differ in speed, and a test run must leave nothing in the project's folder.
hypothesis_settings.register_profile("tests", deadline=None, database=None)
hypothesis_settings.load_profile("tests")


# The real hasher takes a fifth of a second a user, by intention.
django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


# The database: one for each xdist worker, with the pack in it.


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite on disk, as in production: WAL and locks between threads do not exist in memory."""
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        database.setdefault("TEST", {})["NAME"] = str(django_settings.VAR_DIR / "test.sqlite3")
    else:
        # A test is one transaction, however long a busy machine takes over what it computes in between.
        idle = "idle_in_transaction_session_timeout"
        database["OPTIONS"]["options"] = re.sub(rf"{idle}=\d+", f"{idle}=300000", database["OPTIONS"]["options"])


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    with django_db_blocker.unblock():
        with connection.cursor() as cursor:
            # Tables of waffle's own models, which ours replace. Django's flush leaves them out, and PostgreSQL then
            # refuses to truncate the users that they refer to.
            cursor.execute("DROP TABLE IF EXISTS waffle_flag_users")
            cursor.execute("DROP TABLE IF EXISTS waffle_flag_groups")
        pack_load()
        connection.ops.execute_sql_flush = partial(flush_past_triggers, connection.ops.execute_sql_flush)
        # What serialized_rollback and `baseline_restore` bring back.
        connection._test_serialized_contents = connection.creation.serialize_db_to_string()
        # As they are: the serialization cuts microseconds off, and verification finds that.
        BASELINE_EVENTS[:] = Event.objects.order_by("pk")


BASELINE_EVENTS: list[Event] = []


def flush_past_triggers(flush: Callable[[list[str]], None], statements: list[str]) -> None:
    """The trail is append only, also for Django's flush between transactional tests.

    To empty some forty partitions takes a busy machine longer than any statement of the product may.
    """
    with patience():
        triggers_drop()
        flush(statements)
        triggers_install()


@contextmanager
def patience() -> Iterator[None]:
    if connection.vendor != "postgresql":
        yield
        return
    limit, DeadlineConnection.limit = DeadlineConnection.limit, 120.0
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 120000")
        yield
        with connection.cursor() as cursor:
            cursor.execute("RESET statement_timeout")
    finally:
        DeadlineConnection.limit = limit


def baseline_restore() -> None:
    """Groups, flags and pack again, with the numbers they had: a transactional test leaves an empty database."""
    # The sequences stay where they are: started again, they would give numbers that the restored rows have.
    call_command("flush", verbosity=0, interactive=False, inhibit_post_migrate=True, reset_sequences=False)
    ContentType.objects.clear_cache()
    connection.creation.deserialize_db_from_string(connection._test_serialized_contents)
    with triggers_dropped():
        Event.objects.all().delete()
    Event.objects.bulk_create(BASELINE_EVENTS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    try:
        return (yield)
    finally:
        fresh_servers_stop(item, nextitem)
        if nextitem is not None and _flushes(item):
            with item.config.stash[blocking_manager_key].unblock():
                baseline_restore()


def _flushes(item: pytest.Item) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    if names & {"transactional_db", "live_server", "django_db_reset_sequences"}:
        return True
    return any(mark.kwargs.get("transaction") or mark.args[:1] == (True,) for mark in item.iter_markers("django_db"))


# State of the process.


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """What a process keeps between requests must not pass from test to test."""
    process_reset()
    yield
    process_reset()


def process_reset() -> None:
    structlog.contextvars.clear_contextvars()
    snapshot.reset()
    provide.BREAKER.reset()
    provider_forget()
    hot_stores.cache_clear()
    throttles._local.cache_clear()
    throttles._shared.cache_clear()
    REDIS_BREAKER.reset()
    _kept_keys.clear()
    _held.clear()
    _flushed.clear()
    ALLOWANCE.reset()
    mongo_forget()
    draining.clear()
    # Not a new index: only the question, of the next test, whether this one is still that of the database.
    snapshot_forget()


def mongo_forget() -> None:
    # Imported by the first test that configures it, not before: it is optional to the product.
    if module := sys.modules.get("chat.stores.mongo"):
        module.client_forget()
        module.BREAKER.reset()


def provider_forget() -> None:
    if configured.cache_info().currsize:
        client = getattr(configured(), "_client", None)
        if client:
            # Left to the garbage collector its sockets would warn, in some later test.
            client.close()
    configured.cache_clear()


@pytest.fixture
def flag(db: None) -> Callable[..., None]:
    """flag(key, value) sets a flag for everyone, or a setting, as a flag manager would; at once in force."""

    def change(key: str, value: Value, *, reason: str = "a test") -> None:
        flag_set(key=key, value=value, actor_ref="", reason=reason, source="tests")
        snapshot.reset()

    return change


@pytest.fixture
def override_pins() -> Iterator[Callable[..., None]]:
    """override_pins(LLM_TIMEOUT_MS=500) pins, as environment variables do at the start; the earlier pins are gone."""
    before = dict(snapshot.pins())

    def pin(**pins: Value) -> None:
        checked = {key: registered(key).check(value) for key, value in pins.items()}
        snapshot.configure(read_epoch=epoch_read, read_rules=rules_read, pins=checked)

    yield pin
    snapshot.configure(read_epoch=epoch_read, read_rules=rules_read, pins=before)


# Services.


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    need("redis")
    server = redis_start()
    yield server
    server.stop()


@pytest.fixture
def redis_configured(redis_server: RedisServer, settings: Any, flag: Callable[..., None]) -> Iterator[RedisServer]:
    """This process uses an empty Redis, for conversations and for the rate limit."""
    redis_server.flush()
    redis_use(settings, redis_server.url)
    flag("CONV_STORE_PRIMARY", "redis")
    process_reset()
    yield redis_server
    process_reset()


def redis_use(settings: Any, url: str, *, timeout_ms: int = 5000) -> None:
    """A busy machine is no outage, so that it waits for longer than the product does."""
    settings.REDIS_URL = url
    settings.REDIS_SOCKET_TIMEOUT_MS = settings.REDIS_CONNECT_TIMEOUT_MS = timeout_ms
    seconds = timeout_ms / 1000
    conversations = cache_settings("REDIS_URL", url, timeout=seconds, connect_timeout=seconds)
    settings.CACHES = {**settings.CACHES, "conversations": conversations}


@pytest.fixture(scope="session")
def mongo_server() -> Iterator[MongoServer]:
    need("mongo")
    server = mongo_start()
    yield server
    server.stop()


@pytest.fixture
def mongo_configured(mongo_server: MongoServer, settings: Any, flag: Callable[..., None]) -> Iterator[MongoServer]:
    """This process uses an empty MongoDB for conversations."""
    mongo_server.flush()
    settings.MONGO_URL = mongo_server.url
    settings.MONGO_TIMEOUT_MS = 5000
    flag("CONV_STORE_PRIMARY", "mongo")
    process_reset()
    yield mongo_server
    process_reset()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A cluster apart from the one that the suite's own database may be on: tests may stop it."""
    need("postgres")
    server = postgres_start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def gunicorn_server() -> Iterator[Callable[..., Gunicorn]]:
    """gunicorn_server(env, workers=2, database_url=None) gives the same server again for the same arguments;
    with fresh=True one that the caller may harm, which ends with the caller's module."""
    kept: dict[str, Gunicorn] = {}

    def start(env: dict[str, str] | None = None, *, fresh: bool = False, **options: Any) -> Gunicorn:
        key = json.dumps([env or {}, options], sort_keys=True)
        if fresh:
            FRESH.append(gunicorn_start(env, **options))
            return FRESH[-1]
        if key not in kept or not kept[key].process.running:
            kept[key] = gunicorn_start(env, **options)
        return kept[key]

    yield start
    gunicorns_stop([*FRESH, *kept.values()])
    FRESH.clear()
    template_remove()


FRESH: list[Gunicorn] = []


def fresh_servers_stop(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if FRESH and (nextitem is None or nextitem.path != item.path):
        gunicorns_stop(FRESH)
        FRESH.clear()


@pytest.fixture(scope="session")
def model_server_running() -> Iterator[ModelServer]:
    server = ModelServer().start()
    yield server
    server.stop()


@pytest.fixture
def model_server(model_server_running: ModelServer) -> Iterator[ModelServer]:
    """One server for the session, so that its address stays; good answers and an empty record for each test."""
    model_server_running.reset()
    yield model_server_running
    model_server_running.reset()


@pytest.fixture
def openai_configured(model_server: ModelServer, settings: Any) -> Iterator[ModelServer]:
    """This process asks the stand-in model server."""
    settings.LLM_PROVIDER = "openai"
    settings.LLM_BASE_URL = model_server.url
    settings.LLM_API_KEY = "sk-test-0123456789"
    settings.LLM_MODEL = MODEL
    provider_forget()
    yield model_server
    provider_forget()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A server started by a test has a database of its own, whichever this round is on: once is enough."""
    again = OUTCOMES_VARIABLE in os.environ and not django_settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    once = [item for item in items if again and OWN_DATABASE & {*getattr(item, "fixturenames", ())}]
    if once:
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if item not in once]


# Reports.


def pytest_runtest_setup(item: pytest.Item) -> None:
    for process in RUNNING:
        process.output_mark()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failure shows what the services printed during the test."""
    report: Any = yield
    if report.failed:
        for process in RUNNING:
            if printed := process.output_new():
                report.sections.append((f"output of {process.name} (pid {process.pid})", printed))
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In a whole run a test that fails is tried once more: dozens of real servers share two processors. One that passes
    then is named at the end, to be looked into."""
    if OUTCOMES_VARIABLE not in os.environ:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed for report in reports):
        item._initrequest()  # type: ignore[attr-defined]
        again = runtestprotocol(item, log=False, nextitem=nextitem)
        if not any(report.failed for report in again):
            reports = again
            again[-1].user_properties.append((SECOND_TRY, item.nodeid))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests/run.py adds up."""
    for report in terminalreporter.stats.get("", ()):
        for name, value in getattr(report, "user_properties", ()):
            if name == SECOND_TRY:
                terminalreporter.write_line(f"PASSED AT THE SECOND TRY: {value}")
    path = os.environ.get(OUTCOMES_VARIABLE)
    if not path:
        return
    stats = terminalreporter.stats
    counted = {
        "passed": len(stats.get("passed", ())) + len(stats.get("xpassed", ())),
        "failed": len(stats.get("failed", ())) + len(stats.get("error", ())),
        "skipped": len(stats.get("skipped", ())) + len(stats.get("xfailed", ())),
        "skips": sorted((report.nodeid, str(report.longrepr[-1])) for report in stats.get("skipped", ())),
    }
    Path(path).write_text(json.dumps(counted), encoding="utf-8")
