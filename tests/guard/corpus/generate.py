"""The corpus: every fault on several answers, then combined faults, then the good answers unharmed. Seeded.

`python -m tests.guard.corpus.generate` tells how many items it has of which kind.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

from tests.guard.corpus import faults_doc, faults_limits, faults_raw, faults_tree
from tests.guard.corpus.answers import ANSWERS, SHORT
from tests.guard.corpus.answers_long import LONG
from tests.guard.corpus.cases import FAULTS, STAGES, Case
from tests.guard.corpus.draft import leaves, valid
from tests.guard.corpus.plans import CUT_DOC, CUT_RAW, CUT_TREE, DOC, HARD, LIGHT, LONG_STEPS, RAW, TREE, Step

REGISTERED = (faults_tree, faults_limits, faults_doc, faults_raw)
SEED = "onesource-3"
WORD = re.compile(r"\w+")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def apply(case: Case, steps: list[Step]) -> bool:
    """The steps in the order tree, document, reply; False where one of them found nothing to break."""
    for stage in STAGES:
        for name, flavour in steps:
            known = FAULTS[name]
            if known.stage == stage and (not applicable(case, known.only) or known.apply(case, flavour) is False):
                return False
        if stage == "tree":
            case.write()
        if stage == "doc":
            case.join()
    return True


def applicable(case: Case, kind: str) -> bool:
    return not kind or ("blocks" in case.tree and bool(case.blocks(kind)))


def says_otherwise(case: Case) -> bool:
    """Whether the text is a good answer, only another one: then it is no malformed variant, and no part of the corpus.

    Such a text parses strictly and validates, lacks words of the answer that was meant, and nothing in it tells: it has
    no control character and no word that is not the answer's. So a line break within a program's quotes where "\\n" was
    meant. Where the fault shows ("rac" of "\\frac", "ew" of "C:\\new", a form feed) the variant stays.
    """
    if case.answer is None:
        return False
    try:
        read = json.loads(case.raw, object_pairs_hook=unrepeated)
    except (ValueError, RecursionError):
        return False
    if not valid(read):
        return False
    told, meant = "\n".join(leaves(read)), "\n".join(leaves(case.answer))
    said, wanted = Counter(WORD.findall(told)), Counter(WORD.findall(meant))
    return bool(wanted - said) and not said.keys() - wanted.keys() and not CONTROL.search(told)


def unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


class Maker:
    """Takes the answers in turn, the least used first, so that the faults spread over the shapes."""

    def __init__(self) -> None:
        self.used: Counter[str] = Counter()
        self.items: list[dict[str, Any]] = []
        self.seen: set[str] = set()

    def add(self, group: str, steps: list[Step], number: int, shapes: dict[str, Any] = SHORT) -> bool:
        names = "+".join(f"{name}/{flavour}".rstrip("/") for name, flavour in steps) or "none"
        order = sorted(shapes, key=lambda shape: (self.used[shape], Random(f"{SEED}:{names}:{shape}").random()))
        for attempt in range(6):
            for shape in order:
                case = Case.of(shape, ANSWERS[shape], Random(f"{SEED}:{names}:{shape}:{number}:{attempt}"))
                if apply(case, steps) and not says_otherwise(case) and self.fresh(case, names):
                    self.used[shape] += 1
                    self.items.append(item(case, group, names, number))
                    return True
        return False

    def fresh(self, case: Case, names: str) -> bool:
        known = {name for name in self.seen if name.startswith(f"{names}\n")}
        key = f"{names}\n{case.raw}"
        if key in known:
            return False
        self.seen.add(key)
        return True


def item(case: Case, group: str, names: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{names}:{case.shape}:{number}",
        "group": group,
        "fault": [] if names == "none" else names.split("+"),
        "shape": case.shape,
        "stop_reason": case.stop,
        "harmless": case.harmless and case.answer is not None,
        "cut": case.cut,
        "raw": case.raw,
        "answer": case.answer,
        "must_survive": case.survivors(),
    }


def singles(maker: Maker) -> None:
    for known in FAULTS.values():
        for flavour in known.flavours:
            for number in range(known.each):
                maker.add(known.group, [(known.name, flavour)], number)


def combinations(maker: Maker) -> None:
    rng = Random(f"{SEED}:combinations")
    plans: list[tuple[str, list[list[Step]], int]] = [
        ("combined: form + reply", [TREE, RAW], 24),
        ("combined: text + reply", [DOC, RAW], 24),
        ("combined: text + text", [DOC[:8], LIGHT], 24),
        ("combined: form + text + reply", [TREE, DOC, RAW], 30),
        ("combined: form + 2 text + reply", [TREE, DOC[:8], LIGHT, RAW], 24),
    ]
    for group, parts, count in plans:
        until(maker, group, count, lambda parts=parts: [rng.choice(part) for part in parts])
    shares = [flavour for flavour in FAULTS["truncated"].flavours if flavour.endswith("%")][2:]
    for parts, count in (([CUT_TREE, CUT_RAW], 12), ([CUT_DOC, CUT_RAW], 18), ([CUT_TREE, CUT_DOC, CUT_RAW], 10)):
        until(maker, "combined: cut", count, lambda parts=parts: steps_cut(rng, parts, shares))


def steps_cut(rng: Random, parts: list[list[Step]], shares: list[str]) -> list[Step]:
    *before, reply = [rng.choice(part) for part in parts]
    return [*before, ("truncated", rng.choice(shares)), reply]


def until(maker: Maker, group: str, count: int, plan: Any) -> None:
    made = 0
    for number in range(count * 20):
        steps = plan()
        if made < count and len({name for name, _ in steps}) == len(steps):
            made += maker.add(group, steps, number)


def long_ones(maker: Maker) -> None:
    for number, plan in enumerate(LONG_STEPS):
        for shape in LONG:
            maker.add("long answers", plan, number, {shape: LONG[shape]})


def hard_pairs(maker: Maker) -> None:
    for shape, steps in HARD.items():
        for step in steps:
            maker.add("hard pairs", [step], 90, {shape: SHORT[shape]})


def controls(maker: Maker) -> None:
    for shape, answer in ANSWERS.items():
        maker.add("unharmed", [], 0, {shape: answer})


def problems(items: list[dict[str, Any]]) -> Iterator[str]:
    seen = Counter(entry["id"] for entry in items)
    yield from (f"{name}: id used {count} times" for name, count in seen.items() if count > 1)
    for entry in items:
        if entry["harmless"] and not valid(entry["answer"]):
            yield f"{entry['id']}: intended draft is not valid"
        if any(not leaf.strip() for leaf in entry["must_survive"]):
            yield f"{entry['id']}: a blank text must survive"


@cache
def corpus() -> list[dict[str, Any]]:
    assert all(valid(answer) for answer in ANSWERS.values()), "an answer does not meet the schema"
    assert all(module.__name__ for module in REGISTERED)
    maker = Maker()
    for part in (singles, combinations, hard_pairs, long_ones, controls):
        part(maker)
    return maker.items


def main() -> None:
    items = corpus()
    for problem in problems(items):
        print(problem)
    malformed = [entry for entry in items if entry["group"] != "unharmed"]
    print(f"{len(items)} items, {len(malformed)} malformed, {sum(len(entry['raw']) for entry in items) / 1e6:.1f} MB")
    wanted = {(known.name, flavour) for known in FAULTS.values() for flavour in known.flavours}
    made = {tuple((*name.split("/"), "")[:2]) for entry in items if len(entry["fault"]) == 1 for name in entry["fault"]}
    print("never applied:", sorted(wanted - made) or "none")
    for group, count in Counter(entry["group"] for entry in items).items():
        print(f"  {count:4d}  {group}")
    print("shapes:", dict(Counter(entry["shape"] for entry in items)))


if __name__ == "__main__":
    main()
