from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks


@pytest.mark.parametrize(
    ("store", "url", "found"),
    [("redis", "", True), ("redis", "redis://127.0.0.1:6379/0", False), ("database", "", False)],
)
def test_e001_for_a_store_that_is_pinned_and_not_configured(
    override_pins: Callable[..., None], settings: Any, store: str, url: str, found: bool
) -> None:
    settings.REDIS_URL = url
    override_pins(CONV_STORE_PRIMARY=store)
    assert ("flags.E001" in {message.id for message in run_checks()}) is found


def test_e001_is_silent_without_pins(override_pins: Callable[..., None]) -> None:
    override_pins()
    assert "flags.E001" not in {message.id for message in run_checks()}
