"""Django's PostgreSQL backend with a pool that gets over a restart of the server at once."""

from typing import Any, ClassVar

from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base

from onesource.postgresql.connection import DeadlineConnection
from onesource.postgresql.pool import CheckedPool


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
