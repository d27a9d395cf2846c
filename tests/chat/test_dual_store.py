"""Two stores written at once, and the primary changed while the process runs."""

import uuid

import pytest
from prometheus_client import REGISTRY

from chat.models import Turn
from chat.stores.base import Message, StoreAway
from chat.stores.conversation import RECORD, history_append, hot_stores, store_for
from chat.stores.dual import DualStore
from flags import snapshot
from tests.chat.asking import ask
from tests.conftest import process_reset, redis_use
from tests.services import need
from tests.services.redis import redis_start

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("many")]
TTL = 3600
TURN = [Message(1, "user", "q"), Message(2, "assistant", "a")]


@pytest.fixture
def both(redis_configured, mongo_configured):
    """This process has both hot stores."""
    return hot_stores()


@pytest.fixture
def redis_fragile(settings):
    """A Redis that the test may harm, with the product's timeouts."""
    need("redis")
    server = redis_start()
    redis_use(settings, server.url, timeout_ms=200)
    process_reset()
    yield server
    server.stop()


def diverged(store: str, found_by: str) -> float:
    labels = {"store": store, "found_by": found_by}
    return REGISTRY.get_sample_value("onesource_store_divergence_total", labels) or 0


def appended(store) -> uuid.UUID:
    session_id = uuid.uuid4()
    store.append(session_id, TURN, keep=4, ttl_seconds=TTL)
    return session_id


@pytest.mark.parametrize(
    ("primary", "dual", "read", "written"),
    [
        ("redis", False, "redis", {"redis"}),
        ("mongo", False, "mongo", {"mongo"}),
        ("database", False, "database", set()),
        ("redis", True, "redis", {"redis", "mongo"}),
        ("mongo", True, "mongo", {"redis", "mongo"}),
        ("database", True, "database", {"redis", "mongo"}),
    ],
)
def test_the_flags_say_what_is_read_and_what_is_written(both, flag, primary, dual, read, written):
    flag("CONV_STORE_PRIMARY", primary)
    flag("CONV_DUAL_WRITE", dual)
    store = store_for(snapshot.current())
    assert store.name == read
    session_id = appended(store)
    assert {name for name, hot in both.items() if hot.load(session_id, 4)} == written


def test_dual_write_with_one_store_configured_is_that_store(redis_configured, flag):
    flag("CONV_DUAL_WRITE", True)
    assert store_for(snapshot.current()) is hot_stores()["redis"]


def test_the_secondary_away_touches_nothing_and_is_counted(mongo_configured, redis_fragile):
    store = DualStore(hot_stores()["mongo"], hot_stores()["redis"], compared_share=0)
    redis_fragile.kill()
    before = diverged("redis", "write"), diverged("mongo", "write")
    session_id = appended(store)
    assert store.load(session_id, 4) == TURN
    store.check()
    assert (diverged("redis", "write"), diverged("mongo", "write")) == (before[0] + 1, before[1])


@pytest.mark.parametrize("primary", ["redis", "mongo"])
def test_an_outage_is_logged_when_it_begins_and_not_at_every_turn(
    mongo_configured, redis_fragile, flag, caplog, primary
):
    flag("CONV_STORE_PRIMARY", primary)
    flag("CONV_DUAL_WRITE", True)
    redis_fragile.kill()
    caplog.clear()
    for _ in range(10):
        history_append(uuid.uuid4(), TURN, flags=snapshot.current())
    told = [record.msg["event"] for record in caplog.records if isinstance(record.msg, dict)]
    assert told.count("store.failed") == 1
    assert told.count("breaker.changed") == 1


def test_the_primary_away_is_told_and_the_secondary_has_the_turn(mongo_configured, redis_fragile):
    store = DualStore(hot_stores()["redis"], hot_stores()["mongo"], compared_share=0)
    redis_fragile.kill()
    before = diverged("redis", "write")
    session_id = uuid.uuid4()
    with pytest.raises(StoreAway):
        store.append(session_id, TURN, keep=4, ttl_seconds=TTL)
    with pytest.raises(StoreAway):
        store.check()
    assert hot_stores()["mongo"].load(session_id, 4) == TURN
    assert diverged("redis", "write") == before + 1


def test_what_a_secondary_lost_by_itself_is_found_by_a_sampled_read(both):
    store = DualStore(both["redis"], both["mongo"], compared_share=1)
    session_id = appended(store)
    before = diverged("mongo", "read")
    assert store.load(session_id, 4) == TURN
    assert diverged("mongo", "read") == before
    both["mongo"].delete(session_id)
    assert store.load(session_id, 4) == TURN
    assert diverged("mongo", "read") == before + 1


def test_a_load_that_is_not_sampled_asks_the_primary_only(both, mongo_configured):
    store = DualStore(both["redis"], both["mongo"], compared_share=0)
    session_id = appended(store)
    both["mongo"].delete(session_id)
    before = diverged("mongo", "read")
    assert store.load(session_id, 4) == TURN
    assert diverged("mongo", "read") == before


def test_deleting_and_rebuilding_reach_both(both):
    store = DualStore(both["redis"], both["mongo"])
    session_id = uuid.uuid4()
    store.replace(session_id, TURN, upto=2, ttl_seconds=TTL)
    assert [hot.load(session_id, 4) for hot in both.values()] == [TURN, TURN]
    store.delete(session_id)
    assert [hot.load(session_id, 4) for hot in both.values()] == [[], []]


def test_the_primary_is_changed_at_run_time_and_every_turn_has_its_context(
    both, owner, model, flag, django_capture_on_commit_callbacks
):
    session_id = str(uuid.uuid4())
    steps = [
        ("redis", False), ("mongo", False), ("mongo", False), ("database", False), ("redis", True), ("mongo", True),
        ("redis", False), ("redis", False),
    ]  # fmt: skip
    for number, (primary, dual) in enumerate(steps):
        flag("CONV_STORE_PRIMARY", primary)
        flag("CONV_DUAL_WRITE", dual)
        with django_capture_on_commit_callbacks(execute=True):
            ask(owner, f"q{number}", session_id=session_id)
        asked = [message["content"] for message in model.bodies[-1]["messages"] if message["role"] == "user"]
        assert asked == [f"q{earlier}" for earlier in range(number + 1)]
    contexts = list(Turn.objects.order_by("seq").values_list("context", flat=True))
    # Rebuilt where a store takes over that was not written; a hit from dual write on (the fifth writes both).
    assert contexts == ["none", "rebuilt", "hit", "hit", "rebuilt", "hit", "hit", "hit"]


def test_without_a_hot_store_the_record_is_read(flag):
    flag("CONV_DUAL_WRITE", True)
    assert store_for(snapshot.current()) is RECORD
