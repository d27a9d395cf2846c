from django.db import connection


def connection_lend() -> None:
    """Gives the pooled connection back before a wait: a provider call takes seconds, a turn's queries milliseconds."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()
