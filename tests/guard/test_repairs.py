"""Single faults, one by one: the intended answer comes back, and the codes name what was wrong."""

import json

import pytest

from chat.guard import CODES, Class, explain, guard, plain
from chat.guard.codes import Code
from tests.guard.answers import GOOD, MATHS, MIXED, STAIRS, dumps

STRICT = dumps(STAIRS)
PRETTY = json.dumps(STAIRS, ensure_ascii=False, indent=2)

FAULTS = [
    ("FENCE", f"```json\n{PRETTY}\n```"),
    ("FENCE", f"Here you are:\n```\n{STRICT}\n```\nAsk on."),
    ("PREFIX", f"Sure! Here is the answer:\n{STRICT}"),
    ("SUFFIX", f"{STRICT}\nHope this helps!"),
    ("BOM", "\ufeff" + STRICT),
    ("THINK", f'<think>Maybe {{"title": "x", "blocks": []}}?</think>\n{STRICT}'),
    ("THINK", f"First I look at the clause.</think>{STRICT}"),
    ("SSE", f"data: {STRICT}\n\ndata: [DONE]\n"),
    ("SSE", "".join(f"data: {STRICT[i : i + 9]}\n\n" for i in range(0, len(STRICT), 9)) + "data: [DONE]\n\n"),
    ("SSE", "\n".join(f"data: {line}" for line in PRETTY.split("\n"))),
    ("TRAILING_COMMA", STRICT.replace("]}]", "],}],")),
    ("MISSING_COMMA", PRETTY.replace('",\n', '"\n')),
    ("MISSING_COLON", STRICT.replace('"title": "Stair', '"title" "Stair')),
    ("MISSING_CLOSE", STRICT[:-1]),
    ("EXTRA_CLOSE", STRICT.replace('2R+G; it counts."]}', '2R+G; it counts."]}}')),
    ("WRONG_CLOSE", STRICT.replace('2R+G; it counts."]', '2R+G; it counts."}')),
    ("MISSING_OPEN", STRICT[1:]),
    ("MISSING_QUOTE", STRICT.replace('in a house",', "in a house,")),
    ("QUOTE_STYLE", STRICT.replace('\\"', "\0").replace('"', "'").replace("\0", '"')),
    ("QUOTE_STYLE", STRICT.replace('\\"', "\0").replace('"', "\u201c").replace("\0", '"')),
    ("UNESCAPED_QUOTE", STRICT.replace('\\"', '"')),
    ("RAW_CONTROL", STRICT.replace("\\n", "\n")),
    ("UNQUOTED_KEY", STRICT.replace('"title"', "title").replace('"blocks"', "blocks")),
    ("PY_LITERAL", repr(STAIRS)),
    ("COMMENT", STRICT.replace('"summary"', '// in short\n "summary"')),
    ("WRAPPED", dumps({"answer": STAIRS})),
    ("WRAPPED", dumps([STAIRS])),
    ("DOUBLE_ENCODED", json.dumps(STRICT)),
    ("DOUBLE_ENCODED", dumps({"response": STRICT})),
    ("DOUBLE_ENCODED", dumps({**STAIRS, "blocks": dumps(STAIRS["blocks"])})),
    ("HTML_ESCAPED", STRICT.replace("&", "&amp;").replace('"', "&quot;")),
    ("REPEATED", f"{STRICT}\n\n{STRICT}"),
    ("KEY_ALIAS", STRICT.replace('"title"', '"heading"', 1).replace('"text"', '"content"')),
    ("ROWS_WERE_OBJECTS", STRICT.replace(dumps(STAIRS["blocks"][1]["rows"]), dumps([
        dict(zip(STAIRS["blocks"][1]["columns"], row, strict=True)) for row in STAIRS["blocks"][1]["rows"]
    ]))),
    ("LIST_WAS_STRING", STRICT.replace(dumps(STAIRS["blocks"][3]["items"]), dumps(
        "\n".join(f"- {item}" for item in STAIRS["blocks"][3]["items"])
    ))),
    ("FIELD_DERIVED", STRICT.replace('"title": null, ', "")),
    ("DUP_KEY", STRICT.replace('{"title"', '{"summary": ' + dumps(STAIRS["summary"]) + ', "title"')),
]  # fmt: skip


@pytest.mark.parametrize(("code", "raw"), FAULTS, ids=[f"{n}-{code}" for n, (code, _) in enumerate(FAULTS)])
def test_a_single_fault_is_mended_and_named(code, raw):
    guarded = guard(raw)
    assert guarded.draft == STAIRS
    assert code in guarded.codes
    assert not {CODES[found].cls for found in guarded.codes} & {Class.FALLBACK}
    assert not {CODES[found].cls for found in guarded.codes} & {Class.LOSS} or code == "MISSING_QUOTE"


@pytest.mark.parametrize("draft", GOOD)
def test_python_repr_of_any_good_answer_is_read_back(draft):
    assert guard(repr(draft)).draft == draft


@pytest.mark.parametrize("draft", [STAIRS, MIXED])
def test_unescaped_quotes_of_any_good_answer_are_read_back(draft):
    assert guard(dumps(draft).replace('\\"', '"')).draft == draft


def test_latex_and_windows_paths_whose_backslashes_were_not_escaped_come_back():
    guarded = guard(dumps(MATHS).replace("\\\\", "\\"))
    assert guarded.draft["blocks"][0] == MATHS["blocks"][0]
    assert guarded.draft["blocks"][2] == MATHS["blocks"][2]
    assert {"BAD_ESCAPE", "CTRL_RESTORED"} <= set(guarded.codes)


def test_a_lost_latex_escape_in_valid_json_is_put_back():
    raw = '{"title": "t", "summary": "", "blocks": [{"type": "markdown", "text": "$\\frac{1}{2}$ and so.\\nLine"}]}'
    guarded = guard(raw)
    assert guarded.draft["blocks"][0]["text"] == "$\\frac{1}{2}$ and so.\nLine"
    assert guarded.codes == ["CTRL_RESTORED"]


def test_lines_behind_a_path_stay_lines():
    draft = {**STAIRS, "blocks": [{"type": "markdown", "text": "Open C:\\temp\nThen go on. Class C:\nroof"}]}
    assert guard(dumps(draft)).events == ()


def in_markdown(text):
    return {**STAIRS, "blocks": [{"type": "markdown", "text": text}]}


@pytest.mark.parametrize(
    "text",
    [
        "Set it so:\n```latex\n\\(a\\) and \\[b\\]\n```\nDone.",
        "~~~latex\n\\(a\\)\n~~~\nDone.",
        "```latex\n\\(a\\), never closed",
        "A stray ` first.\n```text\n`\\(a\\)` \\_b\n```\nand ` last",
        "````md\n```\n\\(a\\)\n````",
        "> ```\n> \\(a\\)\n> ```",
    ],
)
@pytest.mark.parametrize("breaks", ["\\n", "\n"])
def test_a_backslash_before_a_bracket_stays_in_fenced_code(text, breaks):
    raw = dumps(in_markdown(text)).replace("\\\\", "\\").replace("\\n", breaks)
    guarded = guard(raw)
    assert guarded.draft == in_markdown(text)
    assert "BAD_ESCAPE" in guarded.codes


def test_behind_fenced_code_a_backslash_before_a_bracket_is_markdowns():
    text = "~~~\n\\(a\\)\n~~~\n{mark}(b{mark})"
    raw = dumps(in_markdown(text.replace("{mark}", "\\"))).replace("\\\\", "\\")
    assert guard(raw).draft == in_markdown(text.replace("{mark}", ""))


@pytest.mark.parametrize("text", ["With $\\delta$:\n\n$\\frac{1}{2} \\times w$", "```latex\n\\(\\frac{a}{b}\\)\n```"])
def test_swallowed_escapes_come_back_beside_raw_line_breaks(text):
    raw = dumps(in_markdown(text)).replace("\\n", "\n").replace("\\\\", "\\")
    guarded = guard(raw)
    assert guarded.draft == in_markdown(text)
    assert {"CTRL_RESTORED", "RAW_CONTROL"} <= set(guarded.codes)


def test_a_raw_line_break_is_no_swallowed_escape():
    raw = dumps(in_markdown("With $a$\nu stays a line")).replace("\\n", "\n")
    guarded = guard(raw)
    assert guarded.draft["blocks"][0]["text"].split() == ["With", "$a$", "u", "stays", "a", "line"]
    assert guarded.codes == ["RAW_CONTROL"]


def test_a_separator_swallowed_in_a_doubled_path_comes_back():
    path = 'open("C:\\\\plans\\\\new")'
    draft = {**STAIRS, "blocks": [{"type": "code", "language": "python", "text": path}]}
    raw = dumps(draft).replace("\\\\\\\\new", "\\\\\\new")
    guarded = guard(raw)
    assert guarded.draft == draft
    assert "CTRL_RESTORED" in guarded.codes


def test_names_without_quotes_may_be_of_any_script():
    rows = [{"Wahi": "Te Whanga", "Teitei": "865 mm"}]
    raw = dumps({**STAIRS, "blocks": [{"type": "table", "caption": None, "rows": rows}]})
    raw = raw.replace('"Teitei"', "Ōrite").replace('"Wahi"', "العنصر").replace('"', "'")
    table = guard(raw).draft["blocks"][0]
    assert (table["columns"], table["rows"]) == (["العنصر", "Ōrite"], [["Te Whanga", "865 mm"]])


def test_a_name_twice_beside_unescaped_quotes_is_ambiguous():
    text = '{"type": "markdown\\", "text": "this is text about JSON\\"}'
    raw = f'{{"title": "t", "summary": "", "blocks": [{{"type": "markdown", "text": "{text}"}}]}}'
    assert "AMBIGUOUS" in guard(raw).codes


def test_a_word_that_found_no_place_is_shown_at_the_end():
    raw = dumps(in_markdown("Tail words."))[:-2] + "\\u"
    guarded = guard(raw)
    assert "WORDS_KEPT" in guarded.codes
    assert guarded.draft["blocks"][-1]["text"].endswith("u")


def test_a_record_of_a_thousand_members_is_no_answer_and_is_shown_as_it_is():
    raw = "{" + '"title": "word", ' * 1200 + '"summary": ""}'
    guarded = guard(raw)
    assert "RAW_FALLBACK" in guarded.codes
    assert sum(block["text"].count("word") for block in guarded.draft["blocks"]) == 1200


def test_an_escaped_pipe_stays_within_its_cell():
    table = "| Wall | FRL |\n| --- | --- |\n| Loadbearing \\| external | 90/90/90 |"
    raw = dumps({**STAIRS, "blocks": [{"type": "table", "text": table}]}).replace("\\\\", "\\")
    assert guard(raw).draft["blocks"][0]["rows"] == [["Loadbearing | external", "90/90/90"]]


def test_the_fence_inside_a_string_is_not_the_envelope():
    guarded = guard(f"Here:\n{dumps(MIXED)}\nBye")
    assert guarded.draft == MIXED


def test_duplicate_parts_that_differ_are_both_shown():
    raw = STRICT.replace('{"title"', '{"title": "Another heading", "title"')
    guarded = guard(raw)
    shown = json.dumps(guarded.draft, ensure_ascii=False)
    assert "DUP_KEY" in guarded.codes
    assert "Another heading" in shown
    assert STAIRS["title"] in shown


def test_extra_keys_are_shown_and_flagged():
    guarded = guard(dumps({**STAIRS, "confidence": 0.93, "citations": [{"n": 1, "reference": "H5D2"}]}))
    assert "EXTRA_KEYS" in guarded.codes
    assert guarded.draft["blocks"][:4] == STAIRS["blocks"]
    assert "0.93" in guarded.draft["blocks"][4]["text"]
    assert "reference: H5D2" in guarded.draft["blocks"][4]["text"]


def test_the_previous_products_answer_is_carried_over():
    raw = dumps(
        {"text": "Use **D2D8**.", "emoji_map": {"ok": "✅"}, "mentoring_insight": "Measure twice.", "meta": {"v": 1}}
    )
    guarded = guard(raw)
    assert guarded.draft["blocks"][0] == {"type": "markdown", "text": "Use **D2D8**."}
    assert guarded.draft["blocks"][1]["text"] == "Measure twice."
    assert {"LEGACY_TEXT", "TITLE_DERIVED"} <= set(guarded.codes)


def test_two_plausible_readings_are_called_ambiguous():
    items = '["He said "stop", "go" and left"]'
    raw = f'{{"title": "t", "summary": "", "blocks": [{{"type": "list", "ordered": false, "items": {items}}}]}}'
    assert "AMBIGUOUS" in guard(raw).codes


@pytest.mark.parametrize("cut", range(5, len(STRICT), 37))
def test_a_cut_off_answer_keeps_its_parts_and_says_so(cut):
    guarded = guard(STRICT[:cut], stop_reason="length")
    assert "TRUNCATED" in guarded.codes
    complete = [block for block in STAIRS["blocks"] if dumps(block) in STRICT[:cut]]
    assert guarded.draft["blocks"][: len(complete)] == complete


def test_a_cut_off_answer_says_so_even_when_the_provider_does_not():
    assert "TRUNCATED" in guard(STRICT[:300]).codes


def test_length_as_stop_reason_is_told_of_a_whole_answer_too():
    guarded = guard(STRICT, stop_reason="length")
    assert guarded.draft == STAIRS
    assert guarded.codes == ["TRUNCATED"]


@pytest.mark.parametrize(
    ("raw", "stop_reason", "codes", "outcome"),
    [
        ("", "stop", ["EMPTY"], "fallback"),
        (" \n", "length", ["TRUNCATED"], "repaired"),
        ("I cannot help with that.", "refusal", ["REFUSAL"], "refusal"),
        ("# Ramps\n\nNo steeper than 1:14.", "stop", ["RAW_FALLBACK", "TITLE_DERIVED"], "fallback"),
        ('{"a": {"b": [1, 2]}}', "stop", ["RAW_FALLBACK", "TITLE_DERIVED"], "fallback"),
    ],
)
def test_replies_without_an_answer(raw, stop_reason, codes, outcome):
    guarded = guard(raw, stop_reason=stop_reason)
    assert guarded.codes == codes
    assert guarded.outcome == outcome


def test_plain_text_is_no_repair_where_it_was_asked_for():
    guarded = plain("Handrails: 865 mm to 1,000 mm.")
    assert guarded.events == ()
    assert guarded.draft["blocks"] == [{"type": "markdown", "text": "Handrails: 865 mm to 1,000 mm."}]


def test_events_name_the_place_in_bytes_and_the_change():
    raw = "\ufeff" + STRICT.replace('"title"', "title")
    events = {event.code: event for event in guard(raw).events}
    encoded = raw.encode()
    assert encoded[events["BOM"].start : events["BOM"].end] == "\ufeff".encode()
    key = events["UNQUOTED_KEY"]
    assert encoded[key.start : key.end] == b"title"
    assert len(key.before) == len(key.after) == 64
    assert key.rules == 2
    assert key.sentence == "A name stood without quotation marks."


def test_events_stay_few_however_many_faults():
    raw = (
        '{"title": "t", "summary": "", "blocks": [{"type": "list", "ordered": false, "items": ['
        + "'a', " * 500
        + "]}]}"
    )
    guarded = guard(raw)
    assert len(guarded.events) <= 70
    assert sum(event.count for event in guarded.events if event.code == "QUOTE_STYLE") == 500


def test_explain_tells_outcome_sentences_and_difference():
    told = explain(STRICT.replace('"title"', "title"))
    assert told.startswith("outcome: repaired\n")
    assert "A name stood without quotation marks." in told
    assert "+++ draft" in told
    assert explain(STRICT) == "outcome: valid\n"


def test_every_code_has_a_plain_sentence():
    assert all(isinstance(code, Code) and code.sentence.endswith(".") for code in CODES.values())
    assert len(CODES) <= 64
