"""The guard and json_repair over the same corpus in one run, under the same judge.

json_repair never says what it lost, so that each of its losses counts as silent. A repairer that raises, gives nothing
usable or needs more than LIMIT seconds has given no valid draft.
"""

import importlib
import signal
import time

from chat.guard import CODES, guard
from chat.guard.fallback import EMPTY_TEXT, EMPTY_TITLE, REFUSAL_TITLE
from chat.guard.schema import DRAFT
from tests.guard.corpus.generate import corpus
from tests.guard.corpus.judge import judged

CONSTANTS = (EMPTY_TEXT, EMPTY_TITLE, REFUSAL_TITLE)
JSON_REPAIR = "0.64.6"
LIMIT = 2.0


class TooSlow(BaseException):
    """Raised by the alarm; no Exception, so that no repairer takes it for bad input."""


def ring(_signal, _frame):
    raise TooSlow


def guarded(item):
    result = guard(item["raw"], stop_reason=item["stop_reason"])
    classes = {}
    for code in result.codes:
        classes.setdefault(CODES[code].cls.value, []).append(code)
    return result.draft, classes


def repairers():
    found = {"guard": guarded}
    try:
        json_repair = importlib.import_module("json_repair")
    except ImportError:
        print(f"pip install json_repair=={JSON_REPAIR} to compare")
        return found
    found["json_repair"] = lambda item: (json_repair.loads(item["raw"]), {})
    for mode in ("standard", "salvage"):
        found[f"json_repair, schema, {mode}"] = lambda item, mode=mode: (
            json_repair.loads(item["raw"], schema=DRAFT, schema_repair_mode=mode),
            {},
        )
    return found


def repaired(repairer, item):
    """(draft or None, codes by class, milliseconds)"""
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    start = time.perf_counter()
    try:
        draft, classes = repairer(item)
    except TooSlow:
        draft, classes = None, {}
    except Exception:  # noqa: BLE001  (another library's errors, of whatever kind: no draft)
        draft, classes = None, {}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return draft, classes, 1000 * (time.perf_counter() - start)


def row(name, items, repairer):
    verdicts, times = [], []
    for item in items:
        draft, classes, took = repaired(repairer, item)
        verdicts.append(judged(item, draft, classes, CONSTANTS))
        times.append(took)
    times.sort()
    valid = 100 * sum(verdict.valid for verdict in verdicts) / len(items)
    both = 100 * sum(verdict.valid and verdict.complete for verdict in verdicts) / len(items)
    silent = sum(bool(verdict.unflagged) for verdict in verdicts)
    invented = sum(bool(verdict.invented) for verdict in verdicts)
    worst = f"> {LIMIT * 1000:.0f}" if times[-1] >= LIMIT * 1000 else f"{times[-1]:.1f}"
    p50, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
    print(
        f"{name:30}{valid:>9.1f}{both:>18.1f}{silent:>8}{invented:>10}{p50:>9.2f}{p99:>9.1f}{worst:>10}",
        flush=True,
    )


def compare():
    items = [item for item in corpus() if item["group"] != "unharmed"]
    signal.signal(signal.SIGALRM, ring)
    print(
        f"{f'{len(items)} malformed answers':30}{'valid %':>9}{'valid+complete %':>18}{'silent':>8}{'invented':>10}"
        f"{'p50 ms':>9}{'p99 ms':>9}{'worst ms':>10}"
    )
    for name, repairer in repairers().items():
        row(name, items, repairer)
