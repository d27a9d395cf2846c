from collections.abc import Callable
from typing import Any

import circuitbreaker
import pytest
from django.utils import timezone

from knowledge.retrieval import search
from tests.model_server import ModelServer


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
