"""What a provider is asked to enforce: the draft's schema without what that kind of server refuses.

Limits as documented or measured for each (see `DIALECTS`); the schema itself is written once, in schema.json.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from chat.guard.schema import DRAFT

Dialect: TypeAlias = Literal["openai", "anthropic", "llama_cpp", "ollama", "vllm"]

NAMES = frozenset({"$id", "$schema"})
BOUNDS = frozenset({"maxItems", "maxLength", "minItems", "minLength", "minimum", "maximum", "pattern"})
# llama.cpp answers 400 to a repetition of about 2,000 and more; Ollama runs the same grammar code.
GRAMMAR_REPETITION_LIMIT = 1999


def _no_bounds(keyword: str, value: Any) -> bool:
    """OpenAI's strict mode lists no string bounds; Anthropic refuses numeric, length and maxItems bounds."""
    return keyword not in BOUNDS


def _small_bounds(keyword: str, value: Any) -> bool:
    return keyword != "pattern" and not (keyword in BOUNDS and value > GRAMMAR_REPETITION_LIMIT)


def _no_pattern(keyword: str, value: Any) -> bool:
    """xgrammar, which vLLM runs, refuses `pattern` together with length bounds."""
    return keyword != "pattern"


# Whether a keyword stays, and whether references are written out: llama.cpp fails on a $ref within a $ref.
DIALECTS: dict[Dialect, tuple[Callable[[str, Any], bool], bool]] = {
    "openai": (_no_bounds, False),
    "anthropic": (_no_bounds, False),
    "llama_cpp": (_small_bounds, True),
    "ollama": (_small_bounds, True),
    "vllm": (_no_pattern, False),
}


@lru_cache(maxsize=len(DIALECTS))
def wire_schema(dialect: Dialect = "openai") -> dict[str, Any]:
    """Shared by all callers: not to be changed. KeyError for a dialect that is not in `DIALECTS`."""
    keeps, inline = DIALECTS[dialect]
    wire: dict[str, Any] = _reduced(DRAFT, keeps, inline=inline)
    if inline:
        del wire["$defs"]
    return wire


def _reduced(node: Any, keeps: Callable[[str, Any], bool], *, inline: bool, names: bool = False) -> Any:
    """`names` marks a mapping whose keys are property names, of which none is a keyword."""
    if isinstance(node, list):
        return [_reduced(item, keeps, inline=inline) for item in node]
    if not isinstance(node, dict):
        return node
    if inline and "$ref" in node:
        return _reduced(DRAFT["$defs"][node["$ref"].removeprefix("#/$defs/")], keeps, inline=inline)
    return {
        key: _reduced(value, keeps, inline=inline, names=not names and key in ("properties", "$defs"))
        for key, value in node.items()
        if names or (key not in NAMES and keeps(key, value))
    }
