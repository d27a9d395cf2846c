"""Flags in tests, on and off, without a database."""

from collections.abc import Iterator
from contextlib import contextmanager

from flags import snapshot
from flags.registry import Value, registered


@contextmanager
def override(**values: Value) -> Iterator[None]:
    """`with override(USE_UNIFIED_PIPELINE=False):` or `@override(...)`; nested, the inner one wins.

    In force for the whole process and nobody else. Raises UnknownFlag and BadValue as a real change would.
    """
    checked = {key: registered(key).check(value) for key, value in values.items()}
    with snapshot.overridden(checked):
        yield
