"""Django's PostgreSQL backend with a pool that gets over a restart of the server at once."""

import time
from typing import Any, ClassVar

import psycopg
import psycopg_pool
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from onesource.postgresql.connection import DeadlineConnection


class CheckedPool(psycopg_pool.ConnectionPool[DeadlineConnection]):
    """Gives out live connections only.

    psycopg_pool's own `check` pauses after each dead connection, for 1 s and then longer: with 4 of them a request
    waited 6 s, with 8 over 10 s. A dead connection is found out in no time, so here the next one is tried at once.
    """

    def getconn(self, timeout: float | None = None) -> DeadlineConnection:
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            connection = super().getconn(max(deadline - time.monotonic(), 0))
            try:
                self.check_connection(connection)
            except psycopg.Error:
                # Not fit to be used, so the pool replaces it.
                self.putconn(connection)
            else:
                return connection


class DatabaseWrapper(base.DatabaseWrapper):
    # Django's, which the stubs do not know.
    _connection_pools: ClassVar[dict[str, CheckedPool]]
    _configure_connection: Any

    @property
    def pool(self) -> CheckedPool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            pool = CheckedPool(
                kwargs={**self.get_connection_params(), "autocommit": True},
                open=False,
                configure=self._configure_connection,
                connection_class=DeadlineConnection,
                **options,
            )
            # Of two threads that made one, the first one's counts; a pool that was not opened holds nothing.
            self._connection_pools.setdefault(self.alias, pool)
        return self._connection_pools[self.alias]
