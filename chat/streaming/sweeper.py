"""Each web worker looks now and then for streams whose worker died. Any of them will do: the record is claimed.

Its thread also puts down which flags were asked for, deletes Idempotency-Keys that have expired, and asks the hot
stores to look after themselves.
"""

import random
import threading
import time
import uuid
from datetime import datetime

import structlog
from django import db
from django.db import connection

from chat.idempotency import claims_beat, claims_purge
from chat.services import sessions_erase_hot
from chat.stores.conversation import stores_care
from chat.streaming.services import streams_sweep
from flags.services import uses_flush

log = structlog.get_logger(__name__)
SWEEP_SECONDS = 5.0
PURGE_SECONDS = 600.0


def sweeper_start() -> None:
    threading.Thread(target=_sweep_forever, name="stream-sweeper", daemon=True).start()


def _sweep_forever() -> None:
    silent: dict[uuid.UUID, datetime] = {}
    # Spread likewise.
    purge_at = time.monotonic() + PURGE_SECONDS * random.random()  # noqa: S311
    while True:
        # Spread, so that not all workers look at the same moment.
        time.sleep(SWEEP_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
        try:
            claims_beat()
            silent = streams_sweep(silent)
            sessions_erase_hot()
            uses_flush()
            stores_care()
            if time.monotonic() >= purge_at:
                purge_at = time.monotonic() + PURGE_SECONDS
                claims_purge()
        except db.Error as error:
            log.warning("streams.sweep_failed", cause=type(error).__name__)
        except Exception as error:
            log.error("streams.sweep_failed", exc_info=error)
        finally:
            connection.close()
