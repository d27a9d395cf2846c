"""Answers beyond a limit of the schema, or empty where it wants something."""

from typing import Any

from tests.guard.corpus.cases import Case, fault


@fault(
    "limits",
    "tree",
    "block",
    "title",
    "items",
    "item",
    "cell",
    "rows",
    "blocks",
    "callout",
    "summary",
    "columns",
    "code",
    each=1,
)
def too_long(case: Case, flavour: str) -> None:
    """Each beyond one limit of the schema: nothing may vanish, so the intended draft is itself invalid."""
    case.harmless = False
    sentence = "Measure {0} is checked on day {0} by inspector {0}. "
    blocks: dict[str, Any] = {
        "block": {"type": "markdown", "text": "\n\n".join(sentence.format(n).strip() for n in range(460))},
        "items": {"type": "list", "ordered": False, "items": [f"Lot {n} is clear." for n in range(130)]},
        "item": {
            "type": "list",
            "ordered": False,
            "items": ["".join(sentence.format(n) for n in range(50)).strip(), "Short one."],
        },
        "cell": {
            "type": "table",
            "caption": None,
            "columns": ["A", "B"],
            "rows": [["x", "".join(sentence.format(n) for n in range(25)).strip()]],
        },
        "rows": {
            "type": "table",
            "caption": "Pegs",
            "columns": ["Peg", "Level"],
            "rows": [[f"P{n}", f"{n / 100:.2f} m"] for n in range(230)],
        },
        "callout": {
            "type": "callout",
            "tone": "info",
            "title": None,
            "text": "".join(sentence.format(n) for n in range(90)).strip(),
        },
        "columns": {
            "type": "table",
            "caption": None,
            "columns": [f"Column {n}" for n in range(24)],
            "rows": [[f"value {n}" for n in range(24)]],
        },
        "code": {
            "type": "code",
            "language": "python",
            "text": "\n".join(f"check({n}, 'wall {n}')" for n in range(1000)),
        },
    }
    match flavour:
        case "title":
            case.both(
                lambda draft: draft.update(title="".join(f"Part {n} of the heading, " for n in range(12)).strip(", "))
            )
        case "summary":
            case.both(lambda draft: draft.update(summary="".join(sentence.format(n) for n in range(30)).strip()))
        case "blocks":
            case.both(
                lambda draft: draft["blocks"].extend(
                    {"type": "markdown", "text": f"Remark {n} of many."} for n in range(80)
                )
            )
        case _:
            case.both(lambda draft: draft["blocks"].append(blocks[flavour]))


@fault("limits", "tree", "empty_blocks", "empty_title", "empty_items", "empty_columns", "empty_everything", each=2)
def emptied(case: Case, flavour: str) -> bool:
    case.harmless = False
    answer = case.answer
    assert answer is not None
    kept = [text for text in (answer["title"], answer["summary"]) if text]
    match flavour:
        case "empty_blocks":
            case.tree["blocks"] = []
            case.must, case.answer = kept, None
        case "empty_title":
            case.both(lambda draft: draft.update(title=""))
        case "empty_items":
            case.both(lambda draft: draft["blocks"].append({"type": "list", "ordered": False, "items": []}))
        case "empty_columns":
            case.both(
                lambda draft: draft["blocks"].append(
                    {"type": "table", "caption": None, "columns": [], "rows": [["a1", "b2"]]}
                )
            )
        case "empty_everything":
            case.tree = {"title": "", "summary": "", "blocks": []}
            case.must, case.answer = [], None
    return True
