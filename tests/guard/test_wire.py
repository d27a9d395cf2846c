"""What each provider is asked to enforce, against that provider's documented limits."""

import jsonschema
import pytest

from chat.guard import wire_schema
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


def test_openai_strict_limits():
    schema = wire_schema("openai")
    assert "anyOf" not in schema
    assert schema["type"] == "object"
    assert depth(schema) <= 10
    assert not any(BOUNDS & node.keys() for node in schemas(schema))


def test_anthropic_refuses_bounds():
    assert not any(BOUNDS & node.keys() for node in schemas(wire_schema("anthropic")))


@pytest.mark.parametrize("dialect", ["llama_cpp", "ollama"])
def test_llama_cpp_gets_no_references_and_no_long_repetitions(dialect):
    nodes = list(schemas(wire_schema(dialect)))
    assert not any("$ref" in node or "$defs" in node or "pattern" in node for node in nodes)
    bounds = [value for node in nodes for key, value in node.items() if key in BOUNDS]
    assert bounds
    assert max(bounds) < 2000


def test_vllm_gets_no_pattern():
    assert not any("pattern" in node for node in schemas(wire_schema("vllm")))


def test_the_default_is_openai():
    assert wire_schema() == wire_schema("openai")
