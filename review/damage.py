from collections.abc import Iterator
from contextlib import contextmanager

from onesource.errors import Conflict


class RecordDamaged(Conflict):
    code = "record_damaged"
    title = "The record holds what was never recorded there. An operator finds out what by manage.py audit verify"


@contextmanager
def readable() -> Iterator[None]:
    """Around what reads rows: SQLite takes any value for any column, and one that Django cannot convert is no fault of
    the reviewer's."""
    try:
        yield
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordDamaged() from error
