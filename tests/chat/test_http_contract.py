import json
import uuid

import pytest

from chat.models import Turn
from tests.chat.asking import answer_of, ask, problem_of

pytestmark = pytest.mark.django_db
BODY = json.dumps({"question": "?"})
ROUTES = {
    "/chat": {"POST"},
    "/chat/enhanced": {"POST"},
    "/chat/sessions": {"GET"},
    f"/chat/sessions/{uuid.UUID(int=1)}": {"GET", "DELETE"},
    "/flags": {"GET"},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json;charset=UTF-8",
        'application/json; charset="utf-8"',
        "Application/JSON",
    ],
)
def test_json_in_utf_8_is_read(owner, content_type):
    answer_of(owner.client.post("/chat", BODY, content_type=content_type))
    assert Turn.objects.count() == 1


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/problem+json",
        "application/merge-patch+json",
        "application/*",
        "*/*",
        "nonsense",
        "application/json, text/plain",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "application/json; charset=",
        'application/json; charset="utf-7"',
        "application/json; CHARSET = iso-8859-1",
    ],
)
def test_any_other_content_type_is_415(owner, content_type):
    response = owner.client.generic("POST", "/chat", BODY, content_type=content_type)
    problem_of(response, 415, "unsupported_media_type")
    assert Turn.objects.count() == 0


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x", "identity, gzip"])
def test_a_content_encoding_is_415(owner, encoding):
    problem_of(owner.post_json("/chat", {"question": "?"}, Content_Encoding=encoding), 415, "unsupported_media_type")


def test_the_identity_encoding_is_none(owner):
    assert answer_of(owner.post_json("/chat", {"question": "?"}, Content_Encoding="identity"))["meta"]["turn"] == 1


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "*/*",
        "application/*",
        "application/json; q=0.5",
        "text/html, application/json;q=0.1",
        "text/html, */*;q=0.1",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
    ],
)
def test_an_accept_that_json_satisfies_gets_json(owner, accept):
    response = owner.post_json("/chat", {"question": "?"}, Accept=accept)
    answer_of(response)
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "image/*", "application/jsonx", "text/html, application/xml;q=0.9"]
)
@pytest.mark.parametrize("path", ["/chat", "/chat/enhanced"])
def test_an_accept_that_nothing_satisfies_is_406_before_anything_is_asked(owner, path, accept):
    problem_of(owner.post_json(path, {"question": "?"}, Accept=accept), 406, "not_acceptable")
    assert Turn.objects.count() == 0


def test_an_accept_that_excludes_json_by_q_0_is_406(owner):
    problem_of(owner.post_json("/chat", {"question": "?"}, Accept="application/json;q=0"), 406, "not_acceptable")


@pytest.mark.parametrize("accept", ["nonsense", ";;;", "a/b/c", ",", "application/json;q=x", "\xff"])
def test_a_malformed_accept_is_never_a_500(owner, accept):
    assert owner.post_json("/chat", {"question": "?"}, Accept=accept).status_code in (200, 400, 406)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", METHODS)
def test_another_method_is_405_that_names_those_on_offer(owner, path, method):
    if method in ROUTES[path]:
        assert owner.client.generic(method, path).status_code != 405
        return
    response = owner.client.generic(method, path)
    problem_of(response, 405, "method_not_allowed")
    assert set(response.headers["Allow"].split(", ")) - {"OPTIONS", "HEAD"} == ROUTES[path]


@pytest.mark.parametrize("path", ROUTES)
def test_a_trailing_slash_is_404_without_a_redirect(owner, path):
    problem_of(owner.client.get(f"{path}/"), 404, "not_found")
    problem_of(owner.client.post(f"{path}/", BODY, content_type="application/json"), 404, "not_found")


@pytest.mark.parametrize("path", ["/nothing", "/chat/nothing", "/CHAT", "/chat/%00", "/chat/%ff", "/chat//enhanced"])
def test_an_unknown_address_is_404_problem_json(owner, path):
    problem_of(owner.client.post(path, BODY, content_type="application/json"), 404, "not_found")


def test_a_host_that_is_not_ours_is_400_problem_json(owner):
    problem_of(owner.post_json("/chat", {"question": "?"}, Host="evil.example"), 400)


@pytest.mark.parametrize("request_id", ["abcdefgh", "a.b-c_D9" * 8])
def test_a_well_formed_request_id_is_kept(owner, request_id):
    assert owner.post_json("/chat", {"question": "?"}, X_Request_ID=request_id).headers["X-Request-ID"] == request_id


@pytest.mark.parametrize("request_id", ["", "short", "x" * 65, "a b c d e f", "abcdefgh\u00e9", "<script>x</script>"])
def test_a_malformed_request_id_is_replaced(owner, request_id):
    given = owner.post_json("/chat", {"question": "?"}, X_Request_ID=request_id).headers["X-Request-ID"]
    assert given != request_id
    assert len(given) == 32


def test_each_status_has_the_one_problem_shape(owner, stranger, anonymous, settings, flag):
    session_id = ask(owner)["meta"]["session_id"]
    key = {"Idempotency_Key": "k"}
    owner.post_json("/chat", {"question": "One?"}, **key)
    problem_of(owner.post_json("/chat", {}), 400)
    problem_of(stranger.get(f"/chat/sessions/{session_id}"), 404)
    problem_of(owner.get("/chat"), 405)
    problem_of(owner.post_json("/chat", {"question": "?"}, Accept="text/html"), 406)
    problem_of(owner.post_json("/chat", {"question": "Two?"}, **key), 409)
    problem_of(owner.client.post("/chat", b" " * 65_537, content_type="application/json"), 413)
    problem_of(owner.client.post("/chat", BODY, content_type="text/plain"), 415)
    flag("RATE_LIMIT_PER_USER", 1)
    problem_of(owner.post_json("/chat", {"question": "?"}), 429)
    settings.ANONYMOUS_CHAT = False
    problem_of(anonymous.post("/chat", BODY, content_type="application/json"), 401)


def test_a_bad_request_has_a_type_of_its_code(owner):
    problem = problem_of(owner.post_json("/chat", {}), 400)
    assert problem["type"] == "urn:onesource:problem:bad_input"


def test_flags_are_those_in_force_for_the_caller(owner, flag):
    flag("FEATURE_SUGGESTED_ACTIONS", False)
    flag("CONV_MAX_TURNS", 3)
    found = owner.get("/flags").json()
    assert (found["FEATURE_SUGGESTED_ACTIONS"], found["CONV_MAX_TURNS"], found["USE_UNIFIED_PIPELINE"]) == (
        False,
        3,
        True,
    )
