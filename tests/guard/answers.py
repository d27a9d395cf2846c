"""Good answers of different shapes, and a strategy for any valid draft: what the guard's tests start from."""

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

PROFILE = settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))

STAIRS: dict[str, Any] = {
    "title": "Stair risers and goings in a house",
    "summary": "Risers 115–190 mm, goings 240–355 mm; the slope relationship is 2R+G = 550 to 700.",
    "blocks": [
        {
            "type": "markdown",
            "text": 'See **H5D2** and the *ABCB Housing Provisions* Part 11.2.\n\nThe text says "each riser".',
        },
        {
            "type": "table",
            "caption": "Table 11.2.2a",
            "columns": ["Stair", "Riser (mm)", "Going (mm)"],
            "rows": [["Other than spiral", "115–190", "240–355"], ["Spiral", "140–220", "210–370"]],
        },
        {"type": "callout", "tone": "warning", "title": None, "text": "Queensland varies; see the state's schedule."},
        {"type": "list", "ordered": False, "items": ["Measure the going, then the riser.", "Check 2R+G; it counts."]},
    ],
}
MATHS: dict[str, Any] = {
    "title": "Slope of a ramp",
    "summary": "",
    "blocks": [
        {
            "type": "markdown",
            "text": "With $\\frac{1}{14}$ and $\\theta = \\arctan(1/14)$, so $a \\neq b$ and $x \\times y$.",
        },
        {
            "type": "code",
            "language": "python",
            "text": 'def slope(rise, run):\n\t"""Rise over run."""\n\treturn {"s": rise / run}\n',
        },
        {"type": "code", "language": "", "text": 'copy C:\\new\\temp\\ "D:\\Plans & Co"'},
    ],
}
MIXED: dict[str, Any] = {
    "title": "Te Whare Wānanga: ngā ara (ramps) 👷🏽‍♀️",
    "summary": 'المنحدر 1:14 — שיפוע — 坡道; it\'s "fine" & <b>bold</b>',
    "blocks": [
        {"type": "list", "ordered": True, "items": ["5' 11\" clear", '1/2" pipe, 3/4" valve', "a; b; c", '{"a": [1]}']},
        {
            "type": "markdown",
            "text": '| not | a table |\n```json\n{"title": "inner", "blocks": []}\n```\n[link](https://abcb.gov.au)',
        },
        {"type": "callout", "tone": "info", "title": "Tip", "text": "Don't say 'never', say \"rarely\"."},
    ],
}
GOOD = [STAIRS, MATHS, MIXED]

WORDS = st.text(
    st.one_of(
        st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), st.sampled_from(" \n\t\"'\\{}[],:“”`|")
    ),
    max_size=60,
)
LINES = WORDS.filter(lambda text: text.strip() != "")
BLOCKS = st.one_of(
    st.fixed_dictionaries({"type": st.just("markdown"), "text": WORDS}),
    st.fixed_dictionaries(
        {"type": st.just("list"), "ordered": st.booleans(), "items": st.lists(WORDS, min_size=1, max_size=5)}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("table"),
            "caption": st.none() | WORDS,
            "columns": st.lists(WORDS, min_size=1, max_size=4),
            "rows": st.lists(st.lists(WORDS, max_size=4), max_size=4),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("code"), "language": st.sampled_from(["", "python", "json"]), "text": WORDS}
    ),
    st.fixed_dictionaries(
        {
            "type": st.just("callout"),
            "tone": st.sampled_from(["info", "warning", "danger", "success"]),
            "title": st.none() | WORDS,
            "text": WORDS,
        }
    ),
)
DRAFTS = st.fixed_dictionaries({"title": LINES, "summary": WORDS, "blocks": st.lists(BLOCKS, min_size=1, max_size=6)})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False, width=16) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["title", "summary", "blocks", "type", "text", "items", "rows", "columns", "x", "content"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def dumps(draft: Any) -> str:
    return json.dumps(draft, ensure_ascii=False)
