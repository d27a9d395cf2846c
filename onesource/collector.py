"""Python's garbage collector, where it costs more than it finds."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_settled = False


@contextmanager
def collector_off() -> Iterator[None]:
    """For work that makes very many objects: each collection would look at all those made so far, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def collector_settle() -> None:
    """What there is now is never looked at again; what is no longer referred to goes all the same.

    For the end of a server's start: a collection of all generations goes through 300,000 objects, most of them of the
    knowledge base, and no thread answers for the 200 ms that it takes.
    """
    global _settled
    gc.collect()
    gc.freeze()
    _settled = True


@contextmanager
def collector_spared() -> Iterator[None]:
    """For what makes such objects later: in a process that has settled, those as well are never looked at again, nor
    is whatever else there is by then."""
    if _settled:
        gc.collect()
    with collector_off():
        yield
        if _settled:
            gc.freeze()
