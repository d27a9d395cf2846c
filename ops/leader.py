"""One leader among the background workers. Its jobs are safe under two all the same: each claims what it changes."""

import hashlib
import socket
import uuid
from abc import ABC, abstractmethod
from datetime import timedelta

import psycopg
import structlog
from django import db
from django.db import connection
from django.db.models import Q
from django.db.models.functions import Now

from onesource.postgresql.connection import DeadlineConnection
from ops.models import WorkerLease

log = structlog.get_logger(__name__)
NAME = "onesource-worker"
LEASE_SECONDS = 15
# Of the session that holds the lock: a machine that is gone is noticed after half a minute, not after two hours.
KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"


class Leadership(ABC):
    @abstractmethod
    def hold(self) -> bool:
        """Takes the leadership if it is free, confirms it if it is ours, and says whether we lead. Never raises for a
        database that is away: then nobody leads."""

    @abstractmethod
    def release(self) -> None: ...


def leadership(name: str = NAME) -> Leadership:
    return AdvisoryLock(name) if connection.vendor == "postgresql" else Lease(name)


class AdvisoryLock(Leadership):
    """On PostgreSQL: a lock that ends with the connection that took it, so that a killed leader is replaced at once.

    The connection is its own, outside the pool: a pool hands a connection on with the locks of its session.
    """

    def __init__(self, name: str) -> None:
        self._key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        self._session: psycopg.Connection[tuple[bool]] | None = None

    def hold(self) -> bool:
        try:
            if self._session is None:
                return self._take()
            self._session.execute("SELECT 1")
            return True
        except (psycopg.Error, db.Error) as error:
            log.warning("worker.leadership_unknown", cause=type(error).__name__)
            self.release()
            return False

    def _take(self) -> bool:
        session = DeadlineConnection.connect(**connection.get_connection_params(), autocommit=True)
        try:
            session.execute(KEEPALIVE)
            row = session.execute("SELECT pg_try_advisory_lock(%s)", [self._key]).fetchone()
        except psycopg.Error:
            session.close()
            raise
        if row and row[0]:
            self._session = session
            return True
        session.close()
        return False

    def release(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class Lease(Leadership):
    """Elsewhere: a row that the leader renews, by the clock of the database; free when it has not for LEASE_SECONDS."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holder = f"{socket.gethostname()[:40]}:{uuid.uuid4().hex}"

    def hold(self) -> bool:
        free = Q(holder=self._holder) | Q(until__lte=Now())
        until = Now() + timedelta(seconds=LEASE_SECONDS)
        try:
            rows = WorkerLease.objects.filter(free, name=self._name)
            if rows.update(holder=self._holder, until=until):
                return True
            # The first worker ever; of two, one makes the row.
            WorkerLease.objects.bulk_create([WorkerLease(name=self._name, holder="")], ignore_conflicts=True)
            return bool(rows.update(holder=self._holder, until=until))
        except db.Error as error:
            log.warning("worker.leadership_unknown", cause=type(error).__name__)
            return False

    def release(self) -> None:
        try:
            WorkerLease.objects.filter(name=self._name, holder=self._holder).update(holder="", until=Now())
        except db.Error as error:
            log.warning("worker.lease_left", cause=type(error).__name__)
