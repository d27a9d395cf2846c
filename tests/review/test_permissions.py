"""Who gets to the reviewers' routes: every one that the app has, so that a new one cannot be forgotten."""

import uuid
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import URLPattern, URLResolver, get_resolver

from audit.sealing import log_seal
from chat.models import Turn
from tests.cast import Member, member_make
from tests.review.turns import API, AUDIT, REASON

pytestmark = pytest.mark.django_db
OUTSIDERS = ("owner", "stranger", "flag_manager", "operator")
METHODS = ("get", "post", "put", "patch", "delete")
# Those that do something, and what they are sent.
POSTED: dict[str, dict[str, str]] = {
    "review-reveal": {"reason": REASON},
    "review-verify": {},
    "review-export": {"reason": REASON, "format": "csv"},
    "review-api-reveal": {"reason": REASON},
    "review-api-export": {"reason": REASON},
}


def patterns(found: Any = None, prefix: str = "/") -> list[tuple[str, str]]:
    """(name, path) of every route under /audit/."""
    routes: list[tuple[str, str]] = []
    for pattern in get_resolver().url_patterns if found is None else found:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            routes += patterns(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern) and path.startswith(AUDIT):
            routes.append((pattern.name or "", path))
    return routes


ROUTES = patterns()
PAGES = [(name, path) for name, path in ROUTES if not path.startswith(API)]
APIS = [(name, path) for name, path in ROUTES if path.startswith(API)]


def address(path: str, turn: Turn) -> str:
    for name in ("<uuid:turn_id>", "<str:turn_id>"):
        path = path.replace(name, str(turn.pk))
    path = path.replace("<uuid:uid>", str(turn.event_uid))
    assert "<" not in path
    return path


def call(member: Member, name: str, path: str, turn: Turn, method: str = "") -> Any:
    """As its pages and API are called; any other `method` with an empty body."""
    method = method or ("post" if name in POSTED else "get")
    url = address(path, turn)
    client: Any = member.client if path.startswith(API) else member.browser
    if method == "get":
        return client.get(url)
    body = POSTED.get(name, {})
    return (
        member.post_json(url, body) if path.startswith(API) and method == "post" else getattr(client, method)(url, body)
    )


def test_there_are_routes() -> None:
    assert len(PAGES) >= 6
    assert len(APIS) >= 4


@pytest.mark.parametrize(("name", "path"), ROUTES)
def test_a_reviewer_gets_in(reviewer: Member, asked: Turn, name: str, path: str) -> None:
    log_seal()
    assert call(reviewer, name, path, asked).status_code == 200


@pytest.mark.parametrize(("name", "path"), ROUTES)
@pytest.mark.parametrize("who", OUTSIDERS)
def test_nobody_else_gets_in(request: pytest.FixtureRequest, asked: Turn, who: str, name: str, path: str) -> None:
    member: Member = request.getfixturevalue(who)
    for method in METHODS:
        assert call(member, name, path, asked, method).status_code in (403, 404)


@pytest.mark.parametrize(("name", "path"), ROUTES)
def test_an_outsider_learns_nothing_of_what_there_is(stranger: Member, asked: Turn, name: str, path: str) -> None:
    there = call(stranger, name, path, asked)
    nowhere = call(stranger, name, path, Turn(id=uuid.uuid4(), event_uid=uuid.uuid4()))
    assert there.status_code == nowhere.status_code == 403


@pytest.mark.parametrize(("name", "path"), PAGES)
def test_a_page_sends_nobody_to_sign_in(nobody: Any, asked: Turn, name: str, path: str) -> None:
    for method in METHODS:
        response = getattr(nobody, method)(address(path, asked))
        assert response.status_code == 302
        assert response.headers["Location"].startswith("/accounts/login?next=/audit/")


@pytest.mark.parametrize(("name", "path"), APIS)
def test_the_api_answers_nobody_401(anonymous: Any, asked: Turn, settings: Any, name: str, path: str) -> None:
    settings.ANONYMOUS_CHAT = False
    for method in METHODS:
        response = getattr(anonymous, method)(address(path, asked))
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("name", "path"), APIS)
def test_the_developer_of_development_is_no_reviewer(anonymous: Any, asked: Turn, name: str, path: str) -> None:
    assert anonymous.get(address(path, asked)).status_code == 403
    assert anonymous.post(address(path, asked)).status_code == 403


@pytest.mark.parametrize(("name", "path"), ROUTES)
def test_a_method_that_is_not_offered_is_405(reviewer: Member, asked: Turn, name: str, path: str) -> None:
    unwanted = [method for method in METHODS if method != ("post" if name in POSTED else "get")]
    for method in unwanted:
        assert call(reviewer, name, path, asked, method).status_code == 405


def member_with(*codenames: str) -> Member:
    member = member_make("part")
    permissions = Permission.objects.filter(codename__in=codenames, content_type__app_label="audit")
    member.user.user_permissions.add(*permissions)
    return member


REVEALING = {"review-reveal", "review-api-reveal"}
EXPORTING = {"review-export", "review-api-export", "review-proof", "review-api-proof"}


@pytest.mark.parametrize(("name", "path"), ROUTES)
@pytest.mark.parametrize(
    ("codenames", "denied"),
    [
        (("view_event",), REVEALING | EXPORTING),
        (("view_event", "reveal_content"), EXPORTING),
        (("view_event", "export_proof"), REVEALING),
    ],
)
def test_each_act_needs_its_own_permission(
    asked: Turn, codenames: tuple[str, ...], denied: set[str], name: str, path: str
) -> None:
    response = call(member_with(*codenames), name, path, asked)
    assert (response.status_code == 403) is (name in denied)


@pytest.mark.parametrize(("name", "path"), ROUTES)
def test_to_reveal_or_export_without_seeing_the_trail_is_not_enough(asked: Turn, name: str, path: str) -> None:
    member = member_with("reveal_content", "export_proof")
    assert call(member, name, path, asked).status_code == 403


def test_what_one_may_not_do_is_not_offered(asked: Turn) -> None:
    page = member_with("view_event").browser.get(f"{AUDIT}turns/{asked.pk}/").content.decode()
    assert "/reveal" not in page
    assert "/export" not in page


@pytest.mark.parametrize(("who", "linked"), [("reviewer", True), ("owner", False), ("operator", False)])
def test_only_reviewers_are_shown_the_way(request: pytest.FixtureRequest, who: str, linked: bool) -> None:
    member: Member = request.getfixturevalue(who)
    assert ('href="/audit/"' in member.browser.get("/").content.decode()) is linked


@pytest.mark.parametrize(("name", "path"), ROUTES)
def test_no_cache_keeps_what_a_reviewer_saw(reviewer: Member, asked: Turn, name: str, path: str) -> None:
    log_seal()
    assert "no-store" in call(reviewer, name, path, asked).headers["Cache-Control"]
