"""What a web worker does before it takes its first request."""

from contextlib import suppress

from django import db
from django.db import connection

from chat.providers import configured
from chat.stores.conversation import stores_care
from knowledge.retrieval import search
from onesource.collector import collector_settle
from ops.health import readiness


def worker_warm() -> None:
    """Imports, reads and connects what the first turns would: they took half a second longer while they did.

    What is away stays so: the worker starts all the same, and /readyz says what is wrong.
    """
    configured()
    if readiness().checks["database"]["status"] == "healthy":
        with suppress(db.Error):
            search("warm up")
    stores_care()
    connection.close()
    collector_settle()
