from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks


@pytest.mark.parametrize(
    ("store", "url", "found"),
    [
        ("redis", "", True),
        ("redis", "redis://127.0.0.1:6379/0", False),
        ("database", "", False),
        ("mongo", "", True),
        ("mongo", "mongodb://127.0.0.1:27017/chat", False),
        # Another store's address is no help.
        ("mongo", "redis://127.0.0.1:6379/0", True),
        ("redis", "mongodb://127.0.0.1:27017/chat", True),
    ],
)
def test_e001_for_a_store_that_is_pinned_and_not_configured(
    override_pins: Callable[..., None], settings: Any, store: str, url: str, found: bool
) -> None:
    settings.REDIS_URL = url if url.startswith("redis") else ""
    settings.MONGO_URL = url if url.startswith("mongodb") else ""
    override_pins(CONV_STORE_PRIMARY=store)
    messages = [message for message in run_checks() if message.id == "flags.E001"]
    assert bool(messages) is found
    assert all(f"{store.upper()}_URL is not set" in message.msg for message in messages)


def test_e001_is_silent_without_pins(override_pins: Callable[..., None]) -> None:
    override_pins()
    assert "flags.E001" not in {message.id for message in run_checks()}


def test_what_is_read_at_the_start_need_not_be_asked_for() -> None:
    found = {message.msg for message in run_checks(include_deployment_checks=True) if message.id == "flags.I001"}
    assert not [text for text in found if "_TIMEOUT_MS" in text]
