"""Each hot store with its servers stopped, killed and back: a bounded wait, then none, and no restart of ours."""

import os
import subprocess
import sys
import time
import uuid

import pytest

from chat.breakers import BreakerOpen
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import hot_stores
from chat.stores.waiting import TurnWaits, shared
from tests.conftest import process_reset, redis_use
from tests.environment import ROOT, clean_environment
from tests.services import need
from tests.services.mongo import MongoServer, mongo_start
from tests.services.proxy import Proxy
from tests.services.redis import cluster_start, redis_start, sentinel_start

TTL = 3600
# The product's own bounds are 0.2 to 0.3 s, libraries' defaults 7 to 30 s: a busy machine stays well between.
BOUND_SECONDS = 2.5
AT_ONCE_SECONDS = 0.1
BACK_SECONDS = 30
TURN = [Message(1, "user", "q"), Message(2, "assistant", "a")]
START = {"redis": redis_start, "cluster": cluster_start, "sentinel": sentinel_start}


@pytest.fixture
def server(request):
    """Of the kind that the test is given; it may harm it."""
    kind = request.param
    need("mongo" if kind == "mongo" else "redis")
    started = mongo_start(mine=True) if kind == "mongo" else START[kind]()
    yield started
    started.stop()


@pytest.fixture
def store(request, server, settings):
    """With the product's own timeouts."""
    name = "mongo" if request.node.callspec.params["server"] == "mongo" else "redis"
    if name == "mongo":
        settings.MONGO_URL, settings.MONGO_TIMEOUT_MS = server.url, 200
    else:
        redis_use(settings, server.url, timeout_ms=200)
    process_reset()
    found = hot_stores()[name]
    assert works(found)
    yield found
    process_reset()


def works(store, seconds=BACK_SECONDS) -> bool:
    """Within `seconds`, as callers would find out: by asking again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        session_id = uuid.uuid4()
        try:
            store.append(session_id, TURN, keep=4, ttl_seconds=TTL)
            return store.load(session_id, 4) == TURN
        except StoreAway:
            time.sleep(0.1)
    return False


def failing(store) -> tuple[StoreAway, float]:
    started = time.monotonic()
    with pytest.raises(StoreAway) as raised:
        store.append(uuid.uuid4(), TURN, keep=4, ttl_seconds=TTL)
    return raised.value, time.monotonic() - started


every_server = pytest.mark.parametrize("server", ["redis", "cluster", "sentinel", "mongo"], indirect=True)
harms = pytest.mark.parametrize(("harm", "heal"), [("pause", "resume"), ("kill", "restart")])


@every_server
@harms
def test_a_server_away_costs_one_bounded_wait_and_then_none(server, store, harm, heal):
    getattr(server, harm)()
    _, seconds = failing(store)
    assert seconds < BOUND_SECONDS
    for act in (store.check, lambda: store.load(uuid.uuid4(), 2), lambda: store.delete(uuid.uuid4())):
        started = time.monotonic()
        with pytest.raises(StoreAway) as raised:
            act()
        assert isinstance(raised.value.__cause__, BreakerOpen)
        assert time.monotonic() - started < AT_ONCE_SECONDS
    getattr(server, heal)()
    assert works(store)


@every_server
def test_a_probe_after_the_pause_is_bounded_too(server, store):
    """The breaker lets one caller through now and then; that one must not hang either."""
    server.pause()
    waits = []
    until = time.monotonic() + 5
    while time.monotonic() < until:
        waits.append(failing(store)[1])
        time.sleep(0.05)
    assert max(waits) < BOUND_SECONDS
    assert sum(wait > AT_ONCE_SECONDS for wait in waits) <= 5
    server.resume()


@pytest.mark.parametrize("server", ["redis", "mongo"], indirect=True)
def test_a_slow_store_costs_a_turn_one_limit_in_all(server, settings):
    """An operation takes 0.26 s here and may take 0.6 s: by itself none would fail."""
    network = Proxy(server.port)
    url = server.url.replace(str(server.port), str(network.port))
    if mongo := isinstance(server, MongoServer):
        settings.MONGO_URL, settings.MONGO_TIMEOUT_MS = url, 600
    else:
        redis_use(settings, url, timeout_ms=300)
    process_reset()
    store = hot_stores()["mongo" if mongo else "redis"]
    assert works(store)
    network.become("slow", 0.13)
    started = time.monotonic()
    with shared(TurnWaits()):
        store.load(uuid.uuid4(), 4)
        with pytest.raises(StoreAway):
            [store.load(uuid.uuid4(), 4) for _ in range(3)]
        assert time.monotonic() - started < 1.0
    with pytest.raises(StoreAway) as raised:
        store.load(uuid.uuid4(), 4)
    assert isinstance(raised.value.__cause__, BreakerOpen)
    network.stop()
    process_reset()


@pytest.mark.parametrize("server", ["sentinel"], indirect=True)
@pytest.mark.parametrize("harm", ["kill", "pause"])
def test_after_a_failover_the_new_primary_is_used(server, store, harm):
    before = server.primary()
    getattr(before, harm)()
    assert works(store)
    assert server.primary() is not before
    if harm == "pause":
        # The old primary is back and does not know yet that it is none.
        before.resume()
        assert works(store)
    with server.primary().client() as client:
        assert client.info("replication")["role"] == "master"
        assert client.keys("onesource:conv:*")


@pytest.mark.parametrize("server", ["sentinel"], indirect=True)
def test_one_sentinel_of_three_is_enough_to_find_the_primary(server, store):
    for sentinel in server.sentinels[:2]:
        sentinel.pause()
    with server.servers[0].client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL")
    assert works(store)
    for sentinel in server.sentinels[:2]:
        sentinel.resume()


@pytest.mark.parametrize("server", ["cluster"], indirect=True)
def test_a_node_away_costs_only_the_sessions_that_it_has(server, store):
    server.servers[0].pause()
    outcomes = []
    for _ in range(24):
        process_reset()
        try:
            store.append(uuid.uuid4(), TURN, keep=4, ttl_seconds=TTL)
            outcomes.append("kept")
        except StoreAway:
            outcomes.append("away")
    assert set(outcomes) == {"kept", "away"}
    server.servers[0].resume()
    assert works(store)


FORKED = """
import os, sys, uuid
import django
django.setup()
from chat.stores.base import Message
from chat.stores.conversation import hot_stores
(store,) = hot_stores().values()
def use():
    session_id = uuid.uuid4()
    store.append(session_id, [Message(1, "user", "q")], keep=4, ttl_seconds=60)
    assert [message.text for message in store.load(session_id, 4)] == ["q"]
use()
pid = os.fork()
use()
if not pid:
    os._exit(0)
use()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("server", ["redis", "cluster", "mongo"], indirect=True)
def test_a_process_that_forks_uses_connections_of_its_own_on_both_sides(server, tmp_path):
    variable = "MONGO_URL" if server.url.startswith("mongodb") else "REDIS_URL"
    env = {variable: server.url, "VAR_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "onesource.settings"}
    patient = {"MONGO_TIMEOUT_MS": "5000", "REDIS_SOCKET_TIMEOUT_MS": "5000", "REDIS_CONNECT_TIMEOUT_MS": "5000"}
    done = subprocess.run(
        # Python 3.12 warns of a fork beside threads, which is what is tried here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        cwd=ROOT,
        env=clean_environment(os.environ) | env | patient,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
