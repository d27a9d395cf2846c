"""Faults of writing: brackets, commas, quotes, escapes, comments, literals and cuts in the JSON text itself."""

import re
from collections.abc import Callable
from dataclasses import replace

from tests.guard.corpus.cases import Case, fault
from tests.guard.corpus.writer import Piece, cut, joined, some, texts

VALID_AFTER = set('"\\/bfnrtu')
DECODES_WRONG = set("bfnrt")


def numbers_of(case: Case, *kinds: str) -> list[int]:
    return [number for number, piece in enumerate(case.pieces) if piece.kind in kinds]


def change(case: Case, where: Callable[[Piece], bool], raw: Callable[[Piece], str]) -> bool:
    before = joined(case.pieces)
    case.pieces = [replace(piece, raw=raw(piece)) if where(piece) else piece for piece in case.pieces]
    return joined(case.pieces) != before


def insert(case: Case, places: set[int], raw: str) -> bool:
    """`raw` before each of the pieces at `places`."""
    case.pieces = [
        piece
        for number, old in enumerate(case.pieces)
        for piece in ([Piece(raw, "space"), old] if number in places else [old])
    ]
    return bool(places)


def drop(case: Case, places: set[int]) -> bool:
    case.pieces = [piece for number, piece in enumerate(case.pieces) if number not in places]
    return bool(places)


@fault("commas", "doc", "one", "every", "doubled", each=3)
def trailing_comma(case: Case, flavour: str) -> bool:
    closes = numbers_of(case, "close")
    places = {"one": {case.rng.choice(closes)}, "every": set(closes)}.get(flavour, some(case.rng, closes, 0.2))
    return insert(case, places, ",," if flavour == "doubled" else ",")


@fault("commas", "doc", "one", "between_blocks", "between_keys", "many", "semicolons", each=3)
def missing_comma(case: Case, flavour: str) -> bool:
    if not any("\n" in piece.raw for piece in case.pieces if piece.kind == "space"):
        case.rewrite(indent=2)
    commas = numbers_of(case, "comma")
    depth = {"between_blocks": 2, "between_keys": 1}.get(flavour)
    chosen = [number for number in commas if depth is None or case.pieces[number].depth == depth]
    if not chosen:
        return False
    if flavour == "semicolons":
        picked = some(case.rng, chosen, 0.3)
        case.pieces = [
            replace(piece, raw=";") if number in picked else piece for number, piece in enumerate(case.pieces)
        ]
        return True
    return drop(case, some(case.rng, chosen, 0.3) if flavour == "many" else {case.rng.choice(chosen)})


@fault("quotes", "doc", "all", "all_escaped", "keys", "values", "backticks", each=3)
def single_quotes(case: Case, flavour: str) -> bool:
    mark = "`" if flavour == "backticks" else "'"
    kinds = {"keys": {"keyquote"}, "values": {"quote"}}.get(flavour, {"quote", "keyquote"})
    escaped = flavour in {"all_escaped", "backticks"}

    def raw(piece: Piece) -> str:
        if piece.kind in kinds:
            return mark
        if piece.kind == "char" and "quote" in kinds and piece.text == '"' and flavour != "values":
            return '"'
        return "\\" + mark if piece.kind == "char" and escaped and piece.text == mark else piece.raw

    return change(case, lambda piece: True, raw)


@fault("quotes", "doc", "all", "german", "keys", "mixed", each=3)
def smart_quotes(case: Case, flavour: str) -> bool:
    marks = {"german": ("„", "“")}.get(flavour, ("“", "”"))
    kinds = {"keyquote"} if flavour == "keys" else {"quote", "keyquote"}
    state = {"open": False}

    def raw(piece: Piece) -> str:
        state["open"] = not state["open"]
        return marks[0] if state["open"] else (marks[1] if flavour != "mixed" else '"')

    return change(case, lambda piece: piece.kind in kinds, raw)


@fault("quotes", "doc", "some", "all", "added", "json_like", "inches", each=4)
def unescaped_quotes(case: Case, flavour: str) -> bool:
    added = {
        "added": ' the "Type C" wall',
        "json_like": ' see "clause", "note": "as built" there',
        "inches": ' of 12" or 6" pipe',
    }.get(flavour)
    if added:
        found = case.blocks("markdown")
        if not found:
            return False
        case.both(lambda draft: draft["blocks"][found[0]].update(text=draft["blocks"][found[0]]["text"] + added))
        case.write()
    quotes = [number for number in numbers_of(case, "char") if case.pieces[number].text == '"']
    if not quotes:
        return False
    picked = some(case.rng, quotes, 0.5) if flavour == "some" else set(quotes)
    case.pieces = [replace(piece, raw='"') if number in picked else piece for number, piece in enumerate(case.pieces)]
    return True


@fault("raw characters", "doc", "newlines", "tabs", "crlf", "wrapped", each=3)
def raw_newlines(case: Case, flavour: str) -> bool:
    if flavour == "wrapped":
        spaces = [n for n in numbers_of(case, "char") if case.pieces[n].text == " " and case.pieces[n].content]
        picked = some(case.rng, spaces, 0.08)
        case.pieces = [replace(p, raw="\n") if n in picked else p for n, p in enumerate(case.pieces)]
        case.harmless = False
        return True
    if flavour == "tabs":
        case.both(lambda draft: draft.update(summary=draft["summary"] + "\tsee\tbelow"))
        case.write()
    raws = {"newlines": {"\n": "\n"}, "tabs": {"\t": "\t", "\n": "\n"}, "crlf": {"\n": "\r\n"}}[flavour]
    return change(case, lambda piece: piece.kind == "char" and piece.text in raws, lambda piece: raws[piece.text])


@fault("raw characters", "doc", "nul", "escape", "bell_escaped", "c1", "del", each=2)
def control_characters(case: Case, flavour: str) -> bool:
    raw = {"nul": "\x00", "escape": "\x1b", "bell_escaped": "\\u0007", "c1": "\x85", "del": "\x7f"}[flavour]
    spaces = [n for n in numbers_of(case, "char") if case.pieces[n].text == " " and case.pieces[n].content]
    case.harmless = False
    return insert(case, some(case.rng, spaces, 0.05), raw) if spaces else False


@fault(
    "invisible",
    "doc",
    "bidi_override",
    "isolate",
    "zero_width_in_words",
    "between_tokens",
    "nbsp_tokens",
    "bom_in_text",
    "tags",
    each=2,
)
def invisible(case: Case, flavour: str) -> bool:
    outside = flavour in {"between_tokens", "nbsp_tokens"}
    raw = {
        "bidi_override": "\u202e",
        "isolate": "\u2067",
        "zero_width_in_words": "\u200b",
        "between_tokens": "\u200b",
        "nbsp_tokens": "\u00a0",
        "bom_in_text": "\ufeff",
        "tags": "\U000e0041\U000e0042",
    }[flavour]
    case.harmless = case.harmless and outside
    if outside:
        return insert(case, some(case.rng, numbers_of(case, "open", "keyquote", "comma"), 0.15) & outer(case), raw)
    inside = [
        n
        for n in numbers_of(case, "char")
        if case.pieces[n].content and case.pieces[n].text.isascii() and case.pieces[n].text.isalpha()
    ]
    return insert(case, some(case.rng, inside, 0.03), raw)


def outer(case: Case) -> set[int]:
    """The places where something between two tokens is outside every string: not before a closing quote of a key."""
    opening, seen = set(), 0
    for number, piece in enumerate(case.pieces):
        if piece.kind == "keyquote":
            seen += 1
        if piece.kind in {"open", "comma"} or (piece.kind == "keyquote" and seen % 2):
            opening.add(number)
    return opening


@fault("escapes", "doc", "underscore", "dot", "apostrophe", "hex", "paren", "amp", each=3)
def bad_escape(case: Case, flavour: str) -> bool:
    target, raw, sure = {
        "underscore": ("_", "\\_", False),
        "dot": (".", "\\.", False),
        "apostrophe": ("'", "\\'", True),
        "hex": ("A", "\\x41", True),
        "paren": ("(", "\\(", False),
        "amp": ("&", "\\&", False),
    }[flavour]
    if flavour in {"underscore", "amp"}:
        found = case.blocks("markdown")
        added = {"underscore": " Use stud_spacing_mm here.", "amp": " Fix & seal."}[flavour]
        if not found:
            return False
        case.both(lambda draft: draft["blocks"][found[0]].update(text=draft["blocks"][found[0]]["text"] + added))
        case.write()
    case.harmless = case.harmless and sure
    return change(
        case, lambda piece: piece.kind == "char" and piece.text == target and piece.content, lambda piece: raw
    )


def following(case: Case) -> list[str]:
    """For each piece the raw start of the next, so that an escape can be judged with what comes after it."""
    return [*(piece.raw[:1] for piece in case.pieces[1:]), ""]


@fault("escapes", "doc", "all", "invalid_only", "half", each=6)
def single_backslash(case: Case, flavour: str) -> bool:
    after = following(case)
    found = [
        number
        for number in numbers_of(case, "char")
        if case.pieces[number].text == "\\"
        and after[number] not in {"\\", '"'}
        and (flavour != "invalid_only" or after[number] not in VALID_AFTER)
    ]
    picked = some(case.rng, found, 0.5) if flavour == "half" else set(found)
    case.pieces = [replace(piece, raw="\\") if number in picked else piece for number, piece in enumerate(case.pieces)]
    return bool(found)


@fault("escapes", "doc", "latex", "windows", "own", each=5)
def lost_escape(case: Case, flavour: str) -> bool:
    """Still valid JSON: `\\frac` is read as form feed and "rac", `C:\\new` as a line break and "ew"."""
    added = {
        "latex": r" So $\frac{a}{b} \times \text{mm}$, $\beta$, $\nu$ and $\rho$.",
        "windows": r" Save to C:\new\temp\fonts\bin\reports.",
    }.get(flavour)
    found = case.blocks("markdown")
    if added and not found:
        return False
    if added:
        case.both(lambda draft: draft["blocks"][found[0]].update(text=draft["blocks"][found[0]]["text"] + added))
        case.write()
    after = following(case)
    return change_at(
        case, [n for n in numbers_of(case, "char") if case.pieces[n].text == "\\" and after[n] in DECODES_WRONG], "\\"
    )


def change_at(case: Case, places: list[int], raw: str) -> bool:
    for number in places:
        case.pieces[number] = replace(case.pieces[number], raw=raw)
    return bool(places)


@fault("comments", "doc", "line", "block", "hash", "end_of_line", each=4)
def comments(case: Case, flavour: str) -> bool:
    if not any("\n" in piece.raw for piece in case.pieces if piece.kind == "space"):
        case.rewrite(indent=2)
    commas = some(case.rng, numbers_of(case, "comma"), 0.15)
    text = {
        "line": "\n// next part\n",
        "block": ' /* checked, see "note" */ ',
        "hash": "\n# next part\n",
        "end_of_line": " // it's the rule, {ok}",
    }[flavour]
    return insert(case, {number + 1 for number in commas if number + 1 < len(case.pieces)}, text)


@fault("literals", "doc", "python", "python_quotes", "upper", "undefined", "yes", each=3)
def literals(case: Case, flavour: str) -> bool:
    names = {
        "python": {"true": "True", "false": "False", "null": "None"},
        "upper": {"true": "TRUE", "false": "FALSE", "null": "NULL"},
        "undefined": {"null": "undefined"},
        "yes": {"true": "yes", "false": "no"},
    }.get(flavour, {"true": "True", "false": "False", "null": "None"})
    done = change(case, lambda piece: piece.kind == "literal" and piece.raw in names, lambda piece: names[piece.raw])
    return single_quotes(case, "all_escaped") is True and done if flavour == "python_quotes" else done


@fault("keys bare", "doc", "all", "some", "equals", "arrow", each=3)
def unquoted_keys(case: Case, flavour: str) -> bool:
    keys = numbers_of(case, "key")
    if any(not re.fullmatch(r"\w+", case.pieces[number].text) for number in keys):
        return False
    if flavour in {"equals", "arrow"}:
        colon = {"equals": " = ", "arrow": " => "}[flavour]
        return change(case, lambda piece: piece.kind == "colon", lambda piece: colon)
    picked = set(keys) if flavour == "all" else some(case.rng, keys, 0.4)
    return drop(case, {number + step for number in picked for step in (-1, 1)})


@fault("brackets", "doc", "last", "two", "all_end", "block_end", "array_end", "open_block", "quote_and_all", each=3)
def missing_bracket(case: Case, flavour: str) -> bool:
    closes = numbers_of(case, "close")
    if flavour in {"last", "two", "all_end"}:
        return drop(case, set(closes[-{"last": 1, "two": 2, "all_end": 3}[flavour] :]))
    if flavour == "quote_and_all":
        last = numbers_of(case, "quote")[-1]
        case.pieces = [piece for number, piece in enumerate(case.pieces) if number < last]
        return not case.tree["blocks"][-1].get("rows") and case.pieces[-1].content
    raw = {"block_end": "}", "array_end": "]", "open_block": "{"}[flavour]
    kind = "open" if raw == "{" else "close"
    found = [n for n in numbers_of(case, kind) if case.pieces[n].raw == raw and case.pieces[n].depth >= 2]
    return drop(case, {case.rng.choice(found)}) if found else False


@fault("brackets", "doc", "end", "many_end", "after_block", "array_after_block", "wrong_kind", each=3)
def extra_bracket(case: Case, flavour: str) -> bool:
    closes = numbers_of(case, "close")
    blocks = [number for number in closes if case.pieces[number].raw == "}" and case.pieces[number].depth == 2]
    match flavour:
        case "end" | "many_end":
            case.pieces.append(Piece("}" if flavour == "end" else "]}]}}", "close"))
            return True
        case "wrong_kind":
            number = case.rng.choice(closes[:-1])
            piece = case.pieces[number]
            case.pieces[number] = replace(piece, raw="}" if piece.raw == "]" else "]")
            return True
    return insert(case, {case.rng.choice(blocks) + 1}, "}" if flavour == "after_block" else "]")


PLACES = [
    "in_key",
    "after_colon",
    "after_comma",
    "in_escape",
    "in_unicode",
    "in_literal",
    "after_quote",
    "after_backslash",
    "told_stop",
]
TRUNCATIONS = (*(f"{share}%" for share in (3, 10, 20, 30, 40, 50, 60, 70, 80, 90, 97)), *PLACES)


@fault("truncation", "doc", *TRUNCATIONS, each=3)
def truncated(case: Case, flavour: str) -> bool:
    case.stop = "stop" if flavour == "told_stop" else "length"
    where = place_of_cut(case, flavour)
    if where is None:
        return False
    case.pieces = cut(case.pieces, where)
    case.must, case.extra = texts(case.pieces), []
    case.harmless, case.cut = False, True
    return True


def place_of_cut(case: Case, flavour: str) -> int | None:
    if flavour.endswith("%"):
        return max(1, len(joined(case.pieces)) * int(flavour[:-1]) // 100)
    if flavour == "told_stop":
        return len(joined(case.pieces)) * case.rng.randint(20, 95) // 100
    if flavour == "in_unicode":
        case.rewrite(indent=None, ascii_only=True)
    kinds: dict[str, tuple[Callable[[Piece], bool], int]] = {
        "in_key": (lambda piece: piece.kind == "key", 2),
        "after_colon": (lambda piece: piece.kind == "colon", 1),
        "after_comma": (lambda piece: piece.kind == "comma", 1),
        "in_escape": (lambda piece: piece.raw == "\\n", 1),
        "in_unicode": (lambda piece: piece.raw.startswith("\\u"), 3),
        "in_literal": (lambda piece: piece.raw in {"true", "false", "null"}, 2),
        "after_quote": (lambda piece: piece.kind == "quote", 1),
        "after_backslash": (lambda piece: piece.raw == "\\\\", 1),
    }
    wanted, inside = kinds[flavour]
    found = [number for number, piece in enumerate(case.pieces) if wanted(piece)]
    if not found:
        return None
    number = case.rng.choice(found[len(found) // 3 :])
    raw = case.pieces[number].raw
    if flavour == "in_unicode" and len(raw) == 12:
        inside = 7  # between the halves of a surrogate pair
    return sum(len(piece.raw) for piece in case.pieces[:number]) + inside
