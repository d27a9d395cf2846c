"""Work on several processors, in processes of this one's own. Imports no models: a new process has no apps yet."""

import gc
import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

FEW = 4


def processes_sensible() -> int:
    """One a processor that this process may use, and no more than a database has to spare for it."""
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, FEW)


def process_pool(processes: int) -> ProcessPoolExecutor:
    """Of new processes with Django set up, on the database of this one, where a statement may take as long as it takes.
    What they run must be importable.

    They are started anew: a copy of this process would have copies of its database connections, and of locks that its
    threads hold.
    """
    from django.db import connection

    return ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(connection.settings_dict["NAME"],),
    )


def _begin(database: str) -> None:
    # A terminal sends it to all of them, and the one that waits for this one ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import django

    django.setup()
    from django.db import connection

    connection.settings_dict["NAME"] = database
    options = connection.settings_dict["OPTIONS"]
    # One connection, without the limits of a request.
    options.pop("pool", None)
    if "options" in options:
        options["options"] += " -c statement_timeout=0"
    # As onesource.collector, and for good: a process like this does nothing else.
    gc.disable()


def _end_with_parent() -> None:
    """However that ended: a signal that it does not handle leaves its pool without anyone."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
