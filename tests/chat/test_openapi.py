"""The OpenAPI document: valid, complete, and true of what the API really answers."""

import io
import re

import pytest
import yaml
from django.conf import settings as django_settings
from django.core.management import call_command
from django.urls import get_resolver
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema
from jsonschema import Draft202012Validator

from tests.chat.asking import ask

# Pages for people, and the documents themselves. Of the reviewers' routes only those of their API are in the document.
NO_API = ("admin/", "accounts/", "api/schema/", "api/docs/")
PAGES = re.compile(r"audit/(?!api/)")


@pytest.fixture(scope="module")
def document():
    return SchemaGenerator().get_schema(request=None, public=True)


def routes(patterns=None, prefix="") -> list[str]:
    found = []
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        path = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            found += [] if path.startswith(NO_API) else routes(pattern.url_patterns, path)
        elif not path.startswith(NO_API) and not PAGES.match(path):
            found.append(path)
    return [path for path in found if path]


def schema_of(document, path, method, status="200", media_type="application/json") -> Draft202012Validator:
    schema = document["paths"][path][method]["responses"][status]["content"][media_type]["schema"]
    return Draft202012Validator({**schema, "components": document["components"]})


def test_the_document_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert validate_schema(document) is None


def test_the_command_finds_nothing_to_warn_of():
    out = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=out)
    assert yaml.safe_load(out.getvalue())["paths"]


def test_the_document_covers_every_route(document):
    documented = {path.lstrip("/") for path in document["paths"]}
    routed = {path.replace("<str:", "{").replace(">", "}") for path in routes()}
    assert len(routed) >= 8
    assert routed == documented


def test_the_document_in_the_repository_is_that_of_the_code():
    out = io.StringIO()
    call_command("spectacular", stdout=out)
    held = (django_settings.BASE_DIR / "docs" / "openapi.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(out.getvalue()) == yaml.safe_load(held)


def test_each_operation_says_how_to_authenticate_and_what_can_go_wrong(document):
    for path in ("/chat", "/chat/enhanced", "/chat/sessions", "/flags"):
        for operation in document["paths"][path].values():
            assert {"bearer": []} in operation["security"]
            assert {"401", "429", "503"} <= operation["responses"].keys()


@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_asking_documents_every_status_that_it_gives(document, path):
    responses = document["paths"][path]["post"]["responses"]
    assert {"200", "400", "401", "403", "404", "406", "409", "410", "413", "415", "429", "503"} <= responses.keys()
    assert all("application/problem+json" in responses[status]["content"] for status in responses if status != "200")


def test_asking_documents_its_body(document):
    operation = document["paths"]["/chat"]["post"]
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    body = document["components"]["schemas"][name]
    assert (set(body["properties"]), body["required"]) == (
        {"question", "session_id", "stream", "topics"},
        ["question"],
    )
    assert list(operation["requestBody"]["content"]) == ["application/json"]


@pytest.mark.django_db
def test_an_answer_is_as_documented(owner, document):
    assert list(schema_of(document, "/chat", "post").iter_errors(ask(owner))) == []
    assert list(schema_of(document, "/chat", "post").iter_errors({}))


@pytest.mark.django_db
def test_a_problem_is_as_documented(owner, document):
    validator = schema_of(document, "/chat", "post", "400", "application/problem+json")
    assert list(validator.iter_errors(owner.post_json("/chat", {}).json())) == []
    assert list(validator.iter_errors({}))


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/chat/sessions", "/flags", "/healthz", "/readyz", "/version"])
def test_what_is_read_is_as_documented(owner, document, path):
    ask(owner)
    assert list(schema_of(document, path, "get").iter_errors(owner.get(path).json())) == []


@pytest.mark.django_db
def test_a_session_is_as_documented(owner, document):
    session_id = ask(owner)["meta"]["session_id"]
    validator = schema_of(document, "/chat/sessions/{session_id}", "get")
    assert list(validator.iter_errors(owner.get(f"/chat/sessions/{session_id}").json())) == []
    assert list(validator.iter_errors({}))


@pytest.mark.django_db
def test_the_document_is_open_to_everybody(client, settings):
    settings.ANONYMOUS_CHAT = False
    response = client.get("/api/schema/")
    assert response.status_code == 200
    assert b"openapi: 3.1" in response.content


def test_the_two_ways_to_ask_are_told_apart(document):
    plain, enhanced = (document["paths"][path]["post"]["description"] for path in ("/chat", "/chat/enhanced"))
    assert "the conversation alone" in plain
    assert "knowledge base" in enhanced
