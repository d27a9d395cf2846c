"""Exposition of the metrics of all workers, and of what only the database can say."""

import os
from collections.abc import Iterator

from django import db
from django.conf import settings
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from audit.sealing import unsealed
from audit.selectors import contents_overdue
from flags import snapshot

# More is as bad, and counting it would cost every scrape.
UNSEALED_LIMIT = 100_000


class _AtScrape(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        build = GaugeMetricFamily(
            "onesource_build_info", "What runs here", labels=["version", "commit", "environment", "track"]
        )
        build.add_metric([settings.VERSION, settings.GIT_COMMIT or "", settings.ENVIRONMENT, settings.RELEASE_TRACK], 1)
        yield build
        age = snapshot.current().age()
        yield GaugeMetricFamily(
            "onesource_flags_snapshot_age_seconds", "Since the flags were last confirmed by the database", value=age
        )
        try:
            overdue = contents_overdue()
            waiting = unsealed(UNSEALED_LIMIT)
        except db.Error:
            # A scrape goes on without it: that the database is away is told by other metrics.
            return
        yield GaugeMetricFamily(
            "onesource_content_overdue_rows", "Contents that should have been deleted by now", value=overdue
        )
        yield GaugeMetricFamily(
            "onesource_audit_unsealed_events",
            f"Events not in the log yet; at most {UNSEALED_LIMIT}",
            value=waiting.events,
        )
        yield GaugeMetricFamily(
            "onesource_audit_unsealed_seconds",
            "How long the oldest of them has waited",
            value=waiting.age.total_seconds(),
        )


def process_forget() -> None:
    """At the end of a process: its gauges of the living must not stay."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]


def exposition() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        registry: CollectorRegistry = REGISTRY
        own = CollectorRegistry()
        own.register(_AtScrape())
        return generate_latest(registry) + generate_latest(own)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    registry.register(_AtScrape())
    return generate_latest(registry)
