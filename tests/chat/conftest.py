from collections.abc import Callable, Iterator, Sequence
from typing import Any

import circuitbreaker
import pytest
from django.utils import timezone

from chat.stores.base import ConversationStore
from chat.stores.conversation import hot_stores, store_for
from flags import snapshot
from knowledge.retrieval import search
from tests.chat.asking import ask
from tests.conftest import redis_use
from tests.model_server import ModelServer
from tests.services import need
from tests.services.redis import RedisCluster, RedisSentinel, cluster_start, sentinel_start


@pytest.fixture(scope="session", autouse=True)
def knowledge_warm(request: pytest.FixtureRequest, django_db_blocker: Any) -> None:
    """The index is read as when a worker starts: seconds that belong to no turn, and to no open transaction."""
    if not any(item.get_closest_marker("django_db") for item in request.session.items):
        # pytest-django makes no database then.
        return
    request.getfixturevalue("django_db_setup")
    with django_db_blocker.unblock():
        search("warm up")


@pytest.fixture
def model(openai_configured: ModelServer, flag: Callable[..., None]) -> ModelServer:
    """The stand-in model server answers, within two seconds or not at all."""
    flag("LLM_TIMEOUT_MS", 2000)
    flag("RATE_LIMIT_PER_USER", 1000)
    return openai_configured


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    need("redis")
    cluster = cluster_start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def redis_sentinel() -> Iterator[RedisSentinel]:
    need("redis")
    group = sentinel_start()
    yield group
    group.stop()


class Configured:
    """A kind of store that this process is configured for; `wipe` empties it behind our back."""

    def __init__(self, name: str, wipes: Sequence[Callable[[], None]] = ()) -> None:
        self.name, self.wipes = name, wipes

    @property
    def hot(self) -> bool:
        return self.name != "database"

    def store(self) -> ConversationStore:
        return store_for(snapshot.current())

    def wipe(self) -> None:
        for wipe in self.wipes:
            wipe()


KINDS = ("database", "redis", "cluster", "sentinel", "mongo", "dual")
every_kind = pytest.mark.parametrize("kind", KINDS, indirect=True)
hot_kinds = pytest.mark.parametrize("kind", [name for name in KINDS if name != "database"], indirect=True)


@pytest.fixture
def kind(request: pytest.FixtureRequest, settings: Any, flag: Callable[..., None]) -> Iterator[Configured]:
    """Parametrized indirectly with names of KINDS."""
    name = request.param
    wipes = []
    if name in ("redis", "dual"):
        wipes.append(request.getfixturevalue("redis_configured").flush)
    if name in ("cluster", "sentinel"):
        group = request.getfixturevalue(f"redis_{name}")
        group.flush()
        wipes.append(group.flush)
        redis_use(settings, group.url)
    if name in ("mongo", "dual"):
        wipes.append(request.getfixturevalue("mongo_configured").flush)
    flag("CONV_STORE_PRIMARY", name if name in ("database", "mongo") else "redis")
    flag("CONV_DUAL_WRITE", name == "dual")
    hot_stores.cache_clear()
    yield Configured(name, wipes)
    hot_stores.cache_clear()


@pytest.fixture
def store(kind):
    return kind.store()


@pytest.fixture
def committed(django_capture_on_commit_callbacks):
    """Questions whose effects after the commit take place."""

    def run(member, *questions, **fields):
        answers = []
        for question in questions:
            with django_capture_on_commit_callbacks(execute=True):
                answers.append(ask(member, question, **fields))
            fields["session_id"] = answers[-1]["meta"]["session_id"]
        return answers

    return run


class Clock:
    """Moves the wall clock of Django and the clock of the circuit breakers."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    now, monotonic = timezone.now, circuitbreaker.monotonic
    monkeypatch.setattr(timezone, "now", lambda: now() + timezone.timedelta(seconds=moved.seconds))
    monkeypatch.setattr(circuitbreaker, "monotonic", lambda: monotonic() + moved.seconds)
    return moved


@pytest.fixture
def many(flag: Callable[..., None]) -> Any:
    """Lifts the rate limit out of the way."""
    flag("RATE_LIMIT_PER_USER", 100_000)
