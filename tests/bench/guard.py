"""The guard's speed and robustness, on demand: `python -m tests.bench.guard [--edits N] [PART ...]`.

Parts: answers, bombs, growth, stream, fuzz, compare (all of them by default). Times are the thread's own, so that what
else the machine does shows less; they are hints of this machine, and the ratios within one run are what counts.
"""

import argparse
import gc
import json
import random
import time

import jsonschema_rs

from chat.guard import Scanner, guard
from chat.guard.schema import DRAFT
from tests.bench.compare import compare
from tests.guard.answers import GOOD
from tests.guard.corpus.answers import SHORT
from tests.guard.corpus.answers_long import LONG

IS_VALID = jsonschema_rs.Draft202012Validator(DRAFT).is_valid
PARAGRAPH = "Under **D2D8** the path of travel is not less than 1,000 mm wide — see Table 3.1 and clause 4(2)(b). "
ALPHABET = "{}[]\":,\\'n \n“”`tu0<>/#*"
BOMBS = ("[", "{[", '"', "\\", '[{"\\', '{"a":', '{"title":"\\"', '{"blocks":["', '{"a": [1, "b', "```json\n{", ",")
# Characters of a chunk: one token is about four; some servers send a few at a time.
CHUNKS = {"1 token": (4,), "1-3 tokens": (2, 3, 4, 5, 6, 8, 12), "5 tokens": (20,)}


def good(size):
    """A good answer of about `size` characters: paragraphs, tables and lists."""
    blocks = []
    part = PARAGRAPH * max(1, size // 2500)
    while len(json.dumps(blocks, ensure_ascii=False)) < size and len(blocks) < 61:
        blocks.append({"type": "markdown", "text": f"{part}\n\n- one\n- two"})
        rows = [["Class 5", "1,000"]] * 6
        blocks.append({"type": "table", "caption": None, "columns": ["Use", "Width (mm)"], "rows": rows})
        blocks.append({"type": "list", "ordered": True, "items": [PARAGRAPH, "Check it."]})
    return json.dumps({"title": "Egress", "summary": PARAGRAPH, "blocks": blocks}, ensure_ascii=False)


def quantile(times, share):
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def timed(work, rounds):
    times = []
    gc.disable()
    for _ in range(rounds):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    gc.enable()
    return times


def answers(_edits):
    """Guard and validation of good answers, against reading the JSON alone."""
    print(f"{'good answer':26}{'characters':>11}{'p50 ms':>9}{'p99 ms':>9}{'x json.loads':>14}")
    texts = {f"made, {size // 1000} kB": good(size) for size in (2_000, 7_500, 15_000, 30_000, 60_000)}
    texts |= {f"corpus, {name}": json.dumps(draft, ensure_ascii=False) for name, draft in LONG.items()}
    for name, raw in texts.items():
        assert guard(raw).events == ()
        times = timed(lambda raw=raw: guard(raw), 1000)
        loads = quantile(timed(lambda raw=raw: json.loads(raw), 300), 0.5)
        p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
        print(f"{name:26}{len(raw):>11}{p50 * 1e3:>9.3f}{p99 * 1e3:>9.3f}{p50 / loads:>14.1f}")


def bombs(_edits):
    """A megabyte of what makes parsers slow; the last is all of them mixed."""
    chance = random.Random(3)
    texts = {unit: (unit * (1 << 20))[: 1 << 20] for unit in BOMBS}
    texts["mixed"] = "".join(chance.choices(BOMBS, k=1 << 19))[: 1 << 20]
    print(f"{'1 MB of':18}{'best ms':>9}{'worst ms':>9}")
    for unit, raw in texts.items():
        times = timed(lambda raw=raw: guard(raw), 5)
        print(f"{json.dumps(unit):18}{min(times) * 1e3:>9.1f}{max(times) * 1e3:>9.1f}")


def growth(_edits):
    print(f"{'time(2n) / time(n)':34}{'ratio':>8}")
    cases = {
        "good": good,
        "good, fenced": lambda size: f"```json\n{good(size)}\n```",
        "good, quotes unescaped": lambda size: good(size).replace("**", '"'),
        "good, line breaks raw, cut off": lambda size: good(size).replace(". ", ".\n")[: -size // 10],
        "prose": lambda size: PARAGRAPH * (size // 100),
    }
    for name, make in cases.items():
        one, two = make(40_000), make(80_000)
        once, twice = (quantile(timed(lambda raw=raw: guard(raw), 25), 0.5) for raw in (one, two))
        print(f"{name:34}{twice / once * 2 * len(one) / len(two):>8.2f}")


def chunked(raw, sizes):
    chance, chunks, at = random.Random(1), [], 0
    while at < len(raw):
        size = chance.choice(sizes)
        chunks.append(raw[at : at + size])
        at += size
    return chunks


def fed(raw, chunks, rounds=9):
    """The least time of each chunk in so many rounds: what the scanner needs, without what else the machine does."""
    least = [9.0] * len(chunks)
    for _ in range(rounds):
        scanner = Scanner()
        gc.disable()
        for number, chunk in enumerate(chunks):
            start = time.perf_counter()
            scanner.feed(chunk)
            least[number] = min(least[number], time.perf_counter() - start)
        gc.enable()
        assert scanner.emitted == json.loads(raw)["blocks"]
    return least


def stream(_edits):
    print(f"{'stream':14}{'chunks of':>12}{'chunks':>9}{'p50 us':>8}{'p90 us':>8}{'p99 us':>8}{'max us':>8}")
    kinds = {"short answers": SHORT.values(), "long answers": LONG.values()}
    for kind, drafts in kinds.items():
        for name, sizes in CHUNKS.items():
            least = []
            for draft in drafts:
                raw = json.dumps(draft, ensure_ascii=False)
                least += fed(raw, chunked(raw, sizes))
            told = "".join(f"{quantile(least, share) * 1e6:>8.2f}" for share in (0.5, 0.9, 0.99, 1))
            print(f"{kind:14}{name:>12}{len(least):>9}{told}")
    print(f"\n{'flat in the length':20}{'us a chunk':>12}{'p99 us':>8}{'last / first quarter':>22}")
    for size in (10_000, 50_000, 200_000):
        raw = good(size)
        least = fed(raw, chunked(raw, (4,)), 3)
        quarter = len(least) // 4
        ratio = sum(least[-quarter:]) / sum(least[:quarter])
        print(f"{len(raw):>20}{sum(least) / len(least) * 1e6:>12.2f}{quantile(least, 0.99) * 1e6:>8.2f}{ratio:>22.2f}")


def fuzz(edits):
    chance = random.Random(20261123)
    texts = [json.dumps(draft, ensure_ascii=False) for draft in (*GOOD, *SHORT.values())]
    invalid = raised = clean = 0
    start = time.thread_time()
    for _ in range(edits):
        text = chance.choice(texts)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text) + 1)
            put = "".join(chance.choices(ALPHABET, k=chance.randint(0, 3)))
            text = text[:at] + put + text[at + chance.choice((0, 0, 1, 2, 9, 40)) :]
        try:
            guarded = guard(text, stop_reason=chance.choice(("stop", "stop", "length")))
        except Exception as error:  # noqa: BLE001  (whatever it is, it must not happen, and is counted)
            raised += 1
            print(type(error).__name__, error, repr(text[:80]))
            continue
        invalid += not IS_VALID(guarded.draft)
        clean += guarded.outcome == "valid"
    each = (time.thread_time() - start) / max(1, edits) * 1e3
    print(f"fuzzed edits {edits}: invalid {invalid}, exceptions {raised}, strictly valid {clean}, {each:.2f} ms each")


PARTS = {
    "answers": answers,
    "bombs": bombs,
    "growth": growth,
    "stream": stream,
    "fuzz": fuzz,
    "compare": lambda _edits: compare(),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--edits", type=int, default=100_000)
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    for name in chosen.parts or PARTS:
        PARTS[name](chosen.edits)
        print(flush=True)


if __name__ == "__main__":
    main()
