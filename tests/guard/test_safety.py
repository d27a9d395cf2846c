"""What cannot be shown safely, and what legitimate text needs."""

from itertools import product

import pytest

from chat.guard import guard
from chat.guard.safe import block_safe
from chat.guard.safety import restored, softened, undoubted, unlinked, visible
from tests.guard.answers import STAIRS, dumps
from tests.guard.corpus.answers import ANSWERS


@pytest.mark.parametrize(
    "text",
    [
        "👨‍👩‍👧‍👦 👷🏽‍♀️ 🏳️‍🌈 ☎️ 1️⃣ 🇳🇿 🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "می‌خواهم بروم",
        "क्‍ष and क्‌ष",
        "العربية 1:14 שלום\u200f (D2D8)",
        "Kaunihera o Tāmaki Makaurau",
        "𠀋\U000e0100 葛\U000e0100",
        "90 mm × 45 mm\u00a0– soft\nlines\r\nand\ttabs",
    ],
)
def test_legitimate_text_stays(text):
    assert visible(text) == (text, [])


@pytest.mark.parametrize(
    ("text", "shown", "code"),
    [
        ("a\u202etxt.exe", "atxt.exe", "BIDI"),
        ("a\u2066b\u2069", "ab", "BIDI"),
        ("a\u200fb", "ab", "BIDI"),
        ("pass\u200bword", "password", "INVISIBLE"),
        ("a\u200db", "ab", "INVISIBLE"),
        ("a\U000e0041\U000e0042", "a", "INVISIBLE"),
        ("x\ufe0f\ufe0f", "x", "INVISIBLE"),
        ("a\x00b\x1b[31m", "ab[31m", "CONTROL"),
        ("a\u2028b", "a\nb", "CONTROL"),
    ],
)
def test_what_cannot_be_seen_goes_with_a_code(text, shown, code):
    assert visible(text) == (shown, [code])
    draft = {**STAIRS, "summary": text}
    guarded = guard(dumps(draft))
    assert guarded.draft["summary"] == shown
    assert guarded.codes == [code]


@pytest.mark.parametrize(
    "link",
    [
        "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x]( javascript:alert(1))", "[x](<javascript:a>)",
        "[x](java&#115;cript:a)", "[x](java&Tab;script:a)", "[x](data:text/html;base64,AA)", "[x](vbscript:a)",
        "<javascript:a>", "![x](file:///etc/passwd)", "[r]: javascript:a", "[x](javascript\\:a)",
    ],
)  # fmt: skip
def test_a_link_to_another_scheme_is_shown_as_text(link):
    from markdown_it import MarkdownIt

    safe = unlinked(link)
    assert safe != link
    assert safe.replace(" ", "") == link.replace(" ", "")
    assert unlinked(safe) == safe
    html = MarkdownIt("commonmark", {"html": False}).render(f"{safe}\n\n[r]")
    assert "href" not in html
    assert "src" not in html
    assert "LINK_REMOVED" in guard(dumps({**STAIRS, "summary": link})).codes


@pytest.mark.parametrize(
    "link",
    [
        "[x](https://abcb.gov.au)",
        "[x](http://a)",
        "[x](mailto:a@b.nz)",
        "<https://a.nz>",
        "[x](/rel)",
        "[x](#d2)",
        "a < b: c",
    ],
)
def test_other_links_stay(link):
    assert unlinked(link) == link


def test_code_keeps_what_looks_like_a_link():
    block = {"type": "code", "language": "js", "text": "a[x](javascript:1)"}
    assert guard(dumps({**STAIRS, "blocks": [block]})).events == ()


@pytest.mark.parametrize(
    "text", ["a\x0crac", "C:\new\temp", "5 \times 3", "$a \neq b$", "\\\\srv\\x\nz\templates", "a\rho"]
)
def test_softened_text_is_left_alone_by_restoring(text):
    assert restored(text) != text
    assert restored(restored(text)) == restored(text)
    assert restored(softened(text)) == softened(text)


# What each rule of safety looks for, in pieces to be put together.
PIECES = [
    "C:\new", " Z:\nas", "\nD:\nas", "\\\\srv\new", "\nu", "\nabla", "\neq ", "\times", "\rho", "\frac", "$x$",
    "\\alpha", "\n", "\b", "<b>", "< 1.5", "<javascript:", "](", "](https://", "](javascript:a)", "[r]",
    "\n[r]: data:a", "]: ", "https:", "data:", "C:", "\x7f", "\\", "\"", "/", "a", " ",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["markdown", "code"])
def test_the_quick_look_never_passes_what_would_change(kind):
    for pieces in product(PIECES, repeat=3):
        block = {"type": kind, "text": "".join(pieces)} | ({"language": ""} if kind == "code" else {})
        raw = dumps(block)
        if undoubted(raw, is_code=kind == "code"):
            assert block_safe(block) == block


def test_the_quick_look_passes_most_blocks_of_good_answers():
    blocks = [block for draft in ANSWERS.values() for block in draft["blocks"]]
    passed = sum(undoubted(dumps(block), is_code=block["type"] == "code") for block in blocks)
    assert passed > 0.8 * len(blocks)
