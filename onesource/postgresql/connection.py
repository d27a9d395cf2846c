"""A psycopg connection that waits for the server only so long."""

from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

RV = TypeVar("RV")


class DeadlineConnection(psycopg.Connection[Any]):
    """A stopped server's kernel goes on acknowledging what is sent to it: statement_timeout is the server's own, and
    no TCP setting notices (measured: over 15 s). So the wait for an answer has a limit here, in seconds."""

    limit = 5.0

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.limit if timeout is None else timeout)
        except errors._WaitTimeout:
            if timeout is not None:
                raise
            # Nobody knows what of the exchange took place: the connection is of no more use.
            self.close()
            raise psycopg.OperationalError("the server did not answer in time") from None
