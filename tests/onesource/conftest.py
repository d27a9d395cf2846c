import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """log_lines() gives what the product's own handler has written so far, each line parsed as JSON."""
    (handler,) = (
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)
        and isinstance(handler, logging.StreamHandler)
    )
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)
