"""Faults of the reply as a whole: what models and servers put around, before, after or instead of the JSON."""

import html
import json

from tests.guard.corpus.cases import Case, fault
from tests.guard.corpus.draft import Draft, leaves

BEFORE = "Here is the structured answer you asked for:\n\n"
AFTER = "\n\nLet me know if you would like me to expand on any of this!"
THOUGHT = (
    "The user asks about construction. I should answer with one JSON object such as "
    '{"title": "...", "blocks": []}, then stop.'
)
CHANNEL = "<|end|><|start|>assistant<|channel|>final<|message|>"


@fault("fences", "raw", "json", "plain", "tilde", "upper", "prose", "unclosed", "only_closed", "twice", "four", each=3)
def fence(case: Case, flavour: str) -> None:
    raw = case.raw
    case.raw = {
        "json": f"```json\n{raw}\n```",
        "plain": f"```\n{raw}\n```\n",
        "tilde": f"~~~json\n{raw}\n~~~",
        "upper": f"``` JSON\n{raw}\n```",
        "prose": f"{BEFORE}```json\n{raw}\n```{AFTER}",
        "unclosed": f"```json\n{raw}",
        "only_closed": f"{raw}\n```",
        "twice": f"```json\n```json\n{raw}\n```\n```",
        "four": f"````json\n{raw}\n````",
    }[flavour]


@fault("prose", "raw", "before", "after", "both", "braces_before", "braces_after", "label", "quotes", each=3)
def prose(case: Case, flavour: str) -> None:
    raw = case.raw
    case.raw = {
        "before": BEFORE + raw,
        "after": raw + AFTER,
        "both": BEFORE + raw + AFTER,
        "braces_before": "I'll fill in {title, summary, blocks} as [requested].\n" + raw,
        "braces_after": raw + "\n\nAll {keys} are present and the list is [complete].",
        "label": "json\n" + raw,
        "quotes": 'Sure! The "answer" is:\n' + raw + '\nThat\'s the "JSON".',
    }[flavour]


@fault("thinking", "raw", "think", "think_json", "thinking_tag", "only_end", "harmony", "reflection", each=3)
def think(case: Case, flavour: str) -> None:
    draft = '{"title": "Working title", "summary": "", "blocks": [{"type": "markdown", "text": "to do"}]}'
    case.raw = {
        "think": f"<think>\n{THOUGHT.split('{')[0]}\n</think>\n\n{case.raw}",
        "think_json": f"<think>{THOUGHT} First try: {draft}</think>{case.raw}",
        "thinking_tag": f"<thinking>{THOUGHT}</thinking>\n{case.raw}",
        "only_end": f"{THOUGHT.split('{')[0]}</think>\n{case.raw}",
        "harmony": f"<|channel|>analysis<|message|>{THOUGHT.split('{')[0]}{CHANNEL}{case.raw}",
        "reflection": f"<reasoning>{THOUGHT}</reasoning>\n<answer>\n{case.raw}\n</answer>",
    }[flavour]


@fault(
    "server residue",
    "raw",
    "one_line",
    "done",
    "every_line",
    "deltas",
    "event",
    "choices",
    "eos",
    "bom",
    "bom_twice",
    "bom_mojibake",
    each=2,
)
def residue(case: Case, flavour: str) -> bool:
    raw = case.raw
    if flavour in {"one_line", "done", "event"} and "\n" in raw:
        return False
    match flavour:
        case "deltas":
            parts = [raw[at : at + 24] for at in range(0, len(raw), 24)]
            chunks = [
                json.dumps({"choices": [{"index": 0, "delta": {"content": part}}]}, ensure_ascii=False)
                for part in parts
            ]
            case.raw = "".join(f"data: {chunk}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
            return len(raw) < 3000
        case "choices":
            body = {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": raw}, "finish_reason": "stop"}],
            }
            case.raw = json.dumps(body, ensure_ascii=False)
            return True
    case.raw = {
        "one_line": f"data: {raw}\n\n",
        "done": f"data: {raw}\n\ndata: [DONE]\n\n",
        "every_line": "\n".join("data: " + line for line in raw.split("\n")) + "\n\ndata: [DONE]",
        "event": f"event: message\ndata: {raw}\n\n: ping\n\n",
        "eos": f"{raw}<|im_end|>",
        "bom": "\ufeff" + raw,
        "bom_twice": "\ufeff\ufeff  " + raw + "\ufeff",
        "bom_mojibake": "ï»¿" + raw,
    }[flavour]
    return True


@fault(
    "encoding",
    "raw",
    "string",
    "string_twice",
    "no_outer_quotes",
    "html",
    "html_quotes",
    "html_fenced",
    "url_plus",
    each=3,
)
def encoded(case: Case, flavour: str) -> bool:
    raw = case.raw
    if flavour == "html_quotes" and "&" in raw:
        return False
    if flavour == "url_plus":
        case.raw = "<pre><code>" + html.escape(raw) + "</code></pre>"
        return True
    case.raw = {
        "string": json.dumps(raw, ensure_ascii=False),
        "string_twice": json.dumps(json.dumps(raw, ensure_ascii=False), ensure_ascii=False),
        "no_outer_quotes": json.dumps(raw, ensure_ascii=False)[1:-1],
        "html": html.escape(raw),
        "html_quotes": raw.replace('"', "&quot;"),
        "html_fenced": "```json\n" + html.escape(raw) + "\n```",
    }[flavour]
    return True


@fault("two objects", "raw", "same", "lines", "other_first", "other_after", "split_blocks", "correction", each=3)
def two_objects(case: Case, flavour: str) -> bool:
    if flavour in {"same", "lines"}:
        case.raw = case.raw + ("\n\n" if flavour == "same" else "\n") + case.raw
        return True
    case.harmless = False
    if flavour == "split_blocks":
        half = {key: value for key, value in case.tree.items() if key != "blocks"}
        case.raw = (
            json.dumps(half, ensure_ascii=False)
            + "\n"
            + json.dumps({"blocks": case.tree["blocks"]}, ensure_ascii=False)
        )
        return True
    other: Draft = {
        "title": "A shorter reply",
        "summary": "",
        "blocks": [{"type": "markdown", "text": "Ask the consent authority first."}],
    }
    case.extra += leaves(other)
    text = json.dumps(other, ensure_ascii=False)
    case.raw = {
        "other_first": f"{text}\n{case.raw}",
        "other_after": f"{case.raw}\n{text}",
        "correction": f"{text}\n\nWait, here is the corrected version:\n\n{case.raw}",
    }[flavour]
    return True


@fault(
    "bombs",
    "raw",
    "array_prefix",
    "object_prefix",
    "nested_text",
    "suffix",
    "alone_array",
    "alone_mixed",
    "alone_quotes",
    "alone_backslash",
    each=2,
)
def bomb(case: Case, flavour: str) -> None:
    case.harmless = False
    depth = case.rng.choice([300, 3000, 12000])
    if flavour.startswith("alone"):
        case.answer, case.must = None, []
        case.raw = {"alone_array": "[", "alone_mixed": '{"a":[', "alone_quotes": '"', "alone_backslash": "\\"}[
            flavour
        ] * depth
        return
    deep = "[" * depth + '"deep end"' + "]" * depth
    case.raw = {
        "array_prefix": "[" * depth + case.raw,
        "object_prefix": '{"a":' * depth + case.raw + "}" * depth,
        "nested_text": case.raw[: case.raw.rindex("]")]
        + ', {"type": "markdown", "text": '
        + deep
        + "}"
        + case.raw[case.raw.rindex("]") :],
        "suffix": case.raw + "[{" * depth,
    }[flavour]
    if flavour == "nested_text":
        case.extra.append("deep end")


def as_markdown(draft: Draft) -> str:
    parts = [f"# {draft['title']}", draft["summary"]]
    for block in draft["blocks"]:
        match block["type"]:
            case "markdown":
                parts.append(block["text"])
            case "list":
                parts.append(
                    "\n".join(
                        f"{f'{n}.' if block['ordered'] else '-'} {item}" for n, item in enumerate(block["items"], 1)
                    )
                )
            case "table":
                rows = [block["columns"], ["---"] * len(block["columns"]), *block["rows"]]
                cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
                parts += [block["caption"] or "", "\n".join("| " + " | ".join(row) + " |" for row in cells)]
            case "code":
                parts.append(f"```{block['language']}\n{block['text']}\n```")
            case "callout":
                parts.append(f"> **{block['title'] or 'Note'}**\n>\n> {block['text']}")
    return "\n\n".join(part for part in parts if part)


@fault("no JSON", "raw", "markdown", "fenced_markdown", "yaml", "html", "xml", each=3)
def not_json(case: Case, flavour: str) -> bool:
    answer = case.answer
    assert answer is not None
    case.harmless, case.must, case.answer = False, leaves(answer), None
    text = as_markdown(answer)
    match flavour:
        case "markdown":
            case.raw = text
        case "fenced_markdown":
            case.raw = f"```markdown\n{text}\n```"
            return "```" not in text
        case "yaml":
            if any(
                block["type"] != "markdown" and block["type"] != "list" and block["type"] != "callout"
                for block in answer["blocks"]
            ):
                return False
            lines = [f"title: {answer['title']}", f"summary: {answer['summary']}", "blocks:"]
            for block in answer["blocks"]:
                lines.append(f"  - type: {block['type']}")
                lines += [f"    - {item}" for item in block.get("items", [])]
                lines += [f"    {key}: {block[key]}" for key in ("title", "text") if block.get(key)]
            case.raw = "\n".join(lines)
        case "html":
            body = "".join(f"<p>{html.escape(leaf)}</p>\n" for leaf in case.must[1:])
            case.raw = f"<h1>{html.escape(answer['title'])}</h1>\n{body}"
        case "xml":
            body = "".join(f"<text>{html.escape(leaf)}</text>" for leaf in case.must[1:])
            case.raw = f"<answer><title>{html.escape(answer['title'])}</title>{body}</answer>"
    return True


def arrived(told: list[str], said: str) -> list[str]:
    """The leaves that a Markdown text cut at its end still holds, the last one as far as it came."""
    found, at = [], 0
    for leaf in told:
        written = leaf.replace("|", "\\|") if leaf.replace("|", "\\|") in said[at:] else leaf
        if written in said[at:]:
            at = said.index(written, at) + len(written)
            found.append(leaf)
            continue
        part = next((leaf[:size] for size in range(len(leaf), 0, -1) if said[at:].endswith(leaf[:size])), "")
        return [*found, part] if part.strip() else found
    return found


REFUSALS = {
    "sorry": ("I'm sorry, but I can't help with that.", "stop"),
    "cannot": (
        "I cannot provide engineering certification. Please consult a chartered engineer in your state.",
        "stop",
    ),
    "policy": ("This request goes against the usage policy, so no answer is given.", "refusal"),
    "json": ('{"refusal": "I can\'t assist with defeating a fire alarm."}', "stop"),
    "json_error": ('{"error": {"message": "The content was filtered.", "code": "content_filter"}}', "content_filter"),
    "draft": ('{"title": "I can\'t help with that", "summary": "", "blocks": []}', "stop"),
    "maori": ("Aroha mai, kāore e taea e au te āwhina i tēnei.", "stop"),
    "half": ("I'm sorry, but I can't", "length"),
}
EMPTIES = {
    "nothing": "", "spaces": "  \n\t ", "null": "null", "object": "{}", "array": "[]", "string": '""',
    "fence": "```json\n```",
    "bom": "\ufeff", "done": "data: [DONE]\n\n", "brace": "{", "zero": "0", "dots": "...",
    "think": "<think>\n\n</think>\n\n",
}  # fmt: skip


@fault("refusal", "raw", *REFUSALS, each=1)
def refusal(case: Case, flavour: str) -> None:
    case.raw, case.stop = REFUSALS[flavour]
    said = {
        "json": "I can't assist with defeating a fire alarm.",
        "json_error": "The content was filtered.",
        "draft": "I can't help with that",
    }.get(flavour, case.raw)
    case.answer, case.must, case.harmless = None, [said], False


@fault("empty", "raw", *EMPTIES, each=1)
def empty(case: Case, flavour: str) -> None:
    case.raw = EMPTIES[flavour]
    case.answer, case.must, case.harmless = None, [], False


@fault("empty", "raw", "length", "stop", each=2)
def think_unclosed(case: Case, flavour: str) -> None:
    case.raw = "<think>\n" + THOUGHT.split("{")[0]
    case.answer, case.must, case.harmless, case.stop = None, [], False, flavour


@fault("legacy", "raw", "plain", "fenced", "insight_only", "broken", "with_table", "cut", each=4)
def legacy(case: Case, flavour: str) -> None:
    """The reply of the previous product: {text, emoji_map, mentoring_insight, meta}."""
    answer = case.answer
    assert answer is not None
    text = as_markdown(answer)
    insight = "Ask yourself which clause would fail first, then look for its evidence."
    body = {
        "text": text,
        "emoji_map": {"🏗️": "construction", "⚠️": "warning"},
        "mentoring_insight": insight,
        "meta": {"model": "old", "confidence": 0.9},
    }
    case.answer, case.must, case.harmless = None, [*leaves(answer), insight], False
    if flavour == "insight_only":
        body["text"], case.must = "", [insight]
    case.raw = json.dumps(body, ensure_ascii=False, indent=2)
    match flavour:
        case "fenced":
            case.raw = f"```json\n{case.raw}\n```"
        case "broken":
            case.raw = case.raw.replace("\n}", ",\n}").replace('"meta"', "meta")
        case "cut":
            written = json.dumps(text, ensure_ascii=False)
            at = len(written) * 2 // 3
            while written[at - 1] == "\\" or written[at - 2] == "\\":
                at -= 1
            case.raw, case.stop, case.cut = '{"text": ' + written[:at], "length", True
            case.must = arrived(leaves(answer), json.loads(written[:at] + '"'))
