"""What each provider is asked to enforce, against that provider's documented limits."""

import json

import jsonschema
import pytest

from chat.guard import wire_schema
from chat.guard.schema import DRAFT
from chat.guard.wire import BOUNDS, DIALECTS
from tests.guard.answers import GOOD


def schemas(node):
    """All subschemas, `properties` and `$defs` being mappings of such and no schemas themselves."""
    if isinstance(node, list):
        for item in node:
            yield from schemas(item)
    elif isinstance(node, dict):
        yield node
        for key, value in node.items():
            if key in ("properties", "$defs"):
                for inner in value.values():
                    yield from schemas(inner)
            elif key in ("items", "anyOf"):
                yield from schemas(value)


def depth(node):
    if isinstance(node, list):
        return max(map(depth, node), default=0)
    if not isinstance(node, dict):
        return 0
    inner = max([depth(value) for key, value in node.items()], default=0)
    return inner + (node.get("type") in ("object", "array"))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("draft", GOOD)
def test_good_answers_satisfy_every_wire_schema(dialect, draft):
    assert jsonschema.Draft202012Validator(wire_schema(dialect)).is_valid(draft)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_objects_are_closed_and_every_field_is_required(dialect):
    objects = [node for node in schemas(wire_schema(dialect)) if node.get("type") == "object"]
    assert len(objects) == 6
    for node in objects:
        assert node["additionalProperties"] is False
        assert sorted(node["required"]) == sorted(node["properties"])


def names_and_values(schema):
    """Names of properties and definitions, and the values of enum and const: what OpenAI counts as strings."""
    found = []
    for node in schemas(schema):
        found += [name for key in ("properties", "$defs") for name in node.get(key, ())]
        found += [str(value) for value in (*node.get("enum", ()), *([node["const"]] if "const" in node else ()))]
    return found


def branches(schema):
    """The objects of each anyOf, references resolved."""
    definitions = schema.get("$defs", {})
    for node in schemas(schema):
        if "anyOf" in node:
            yield [
                definitions[branch["$ref"].removeprefix("#/$defs/")] if "$ref" in branch else branch
                for branch in node["anyOf"]
            ]


def unfolded(node, definitions):
    """Without references, as a provider that counts levels sees it."""
    if isinstance(node, list):
        return [unfolded(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return unfolded(definitions[node["$ref"].removeprefix("#/$defs/")], definitions)
    return {key: unfolded(value, definitions) for key, value in node.items() if key != "$defs"}


# developers.openai.com/api/docs/guides/structured-outputs#supported-schemas, as of 2026.
OPENAI_REFUSES = {
    "allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "default", "uniqueItems",
    "patternProperties", "unevaluatedProperties", "propertyNames", "prefixItems", "contains",
}  # fmt: skip


def test_openai_strict_limits():
    schema = wire_schema("openai")
    assert "anyOf" not in schema
    assert schema["type"] == "object"
    nodes = list(schemas(schema))
    assert depth(unfolded(schema, schema["$defs"])) <= 10
    assert sum(len(node.get("properties", ())) for node in nodes) <= 5000
    assert sum(len(text) for text in names_and_values(schema)) <= 120_000
    assert sum(len(node.get("enum", ())) for node in nodes) <= 1000
    assert not any((BOUNDS | OPENAI_REFUSES) & node.keys() for node in nodes)


def test_openai_tells_the_branches_of_a_choice_by_their_first_key():
    """ "Objects provided via 'anyOf' must not share identical first keys", unless the key tells them apart."""
    for objects in branches(wire_schema("openai")):
        firsts = [next(iter(branch["properties"].items())) for branch in objects]
        assert {name for name, _ in firsts} == {"type"}
        values = [value for _, first in firsts for value in first["enum"]]
        assert len(values) == len(set(values)) == len(objects)


def test_the_counts_see_what_they_count():
    schema = {"anyOf": [{"type": "object", "properties": {"ab": {"enum": ["c"]}, "d": {"const": "ef"}}}]}
    assert sorted(names_and_values(schema)) == ["ab", "c", "d", "ef"]
    inner = {"type": "array", "items": {"$ref": "#/$defs/x"}, "$defs": {"x": {"type": "object"}}}
    assert depth(unfolded(inner, inner["$defs"])) == 2


# platform.claude.com/docs/en/build-with-claude/structured-outputs: 24 optional parameters, 16 of a union type, no
# recursion, references within the schema only, nothing but a minItems of 0 or 1 for bounds.
def test_anthropic_limits():
    schema = wire_schema("anthropic")
    nodes = list(schemas(schema))
    assert not any((BOUNDS | {"uniqueItems", "multipleOf", "oneOf"}) & node.keys() for node in nodes)
    properties = [value for node in nodes for value in node.get("properties", {}).values()]
    assert sum("anyOf" in value or isinstance(value.get("type"), list) for value in properties) <= 16
    assert all(node["$ref"].startswith("#/$defs/") for node in nodes if "$ref" in node)
    assert all(isinstance(value, str) for node in nodes for value in node.get("enum", ()))
    unfolded(schema, schema["$defs"])  # a schema that contains itself would never end


@pytest.mark.parametrize("dialect", ["llama_cpp", "ollama"])
def test_llama_cpp_gets_no_references_and_no_long_repetitions(dialect):
    """Its grammar is refused at a repetition of exactly 2,000, and in older versions at any above."""
    nodes = list(schemas(wire_schema(dialect)))
    assert not any("$ref" in node or "$defs" in node or "pattern" in node for node in nodes)
    bounds = [value for node in nodes for key, value in node.items() if key in BOUNDS]
    assert max(bounds) < 2000
    assert 1200 in bounds


@pytest.mark.parametrize("dialect", ["llama_cpp", "ollama", "vllm"])
def test_grammar_servers_get_only_keywords_they_know(dialect):
    """llama.cpp and xgrammar pass over a keyword they do not know, so that it would be asked for in vain."""
    known = {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "$ref", "$defs"}
    known |= BOUNDS - {"pattern"}
    assert {key for node in schemas(wire_schema(dialect)) for key in node} <= known


def test_vllm_keeps_the_bounds():
    bounds = {key for node in schemas(wire_schema("vllm")) for key in node} & BOUNDS
    assert bounds == {"minLength", "maxLength", "minItems", "maxItems"}


def test_deriving_a_dialect_leaves_the_schema_as_it_is():
    before = json.dumps(DRAFT)
    for dialect in DIALECTS:
        wire_schema.__wrapped__(dialect)
    assert json.dumps(DRAFT) == before


def test_vllm_gets_no_pattern():
    assert not any("pattern" in node for node in schemas(wire_schema("vllm")))


def test_the_default_is_openai():
    assert wire_schema() == wire_schema("openai")
