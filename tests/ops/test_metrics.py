"""/metrics: who may read it, what is in it, and that several workers count together."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from prometheus_client.parser import text_string_to_metric_families

from audit.services import content_store
from flags import snapshot
from tests.cast import Member
from tests.services.gunicorn import Gunicorn

OUTSIDE = "203.0.113.9"


def scrape(client: Client, address: str = "127.0.0.1", **headers: str) -> Any:
    return client.get("/metrics", REMOTE_ADDR=address, headers=headers)


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def total(text: str, name: str) -> float:
    return sum(value for (sample, _), value in samples(text).items() if sample == name)


# Who


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "10.1.2.3"])
def test_an_allowed_network_reads(client: Client, db: None, settings: Any, address: str) -> None:
    settings.METRICS_ALLOWED_NETWORKS = [ip_network(part) for part in ("127.0.0.0/8", "::1/128", "10.0.0.0/8")]
    response = scrape(client, address)
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize(
    "address", [OUTSIDE, "128.0.0.1", "2001:db8::1", "", "unix:", "127.0.0.1, 203.0.113.9", "localhost"]
)
def test_nobody_else_reads(client: Client, db: None, address: str) -> None:
    response = scrape(client, address)
    assert response.status_code in (401, 403)
    assert response["Content-Type"] == "application/problem+json"
    assert b"onesource_" not in response.content


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "Client-IP"])
def test_a_claimed_address_does_not_count(client: Client, db: None, header: str) -> None:
    assert scrape(client, OUTSIDE, **{header: "127.0.0.1"}).status_code == 403


def test_an_operator_s_token_reads_from_anywhere(client: Client, operator: Member) -> None:
    response = scrape(client, OUTSIDE, Authorization=f"Bearer {operator.token}")
    assert response.status_code == 200
    assert b"onesource_build_info" in response.content


@pytest.mark.parametrize("other", ["owner", "reviewer", "flag_manager"])
def test_the_token_of_another_does_not(client: Client, request: pytest.FixtureRequest, other: str) -> None:
    member: Member = request.getfixturevalue(other)
    assert scrape(client, OUTSIDE, Authorization=f"Bearer {member.token}").status_code == 403


@pytest.mark.parametrize("fields", [{"is_active": False}, {"is_staff": False}])
def test_what_counts_is_the_operator_s_permission_and_that_the_account_is_active(
    client: Client, operator: Member, fields: dict[str, bool]
) -> None:
    for name, value in fields.items():
        setattr(operator.user, name, value)
    operator.user.save()
    expected = 403 if "is_active" in fields else 200
    assert scrape(client, OUTSIDE, Authorization=f"Bearer {operator.token}").status_code == expected


def test_an_expired_token_does_not(client: Client, operator: Member) -> None:
    AuthToken.objects.update(expiry=timezone.now() - timedelta(seconds=1))
    assert scrape(client, OUTSIDE, Authorization=f"Bearer {operator.token}").status_code == 403


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer " + "0" * 64,
        "Basic b3A6b3A=",
        "Token x",
        "Bearer \u00e9",
        "Bearer a b",
        "x" * 5000,
    ],
)
def test_an_odd_authorization_does_not(client: Client, db: None, header: str) -> None:
    assert scrape(client, OUTSIDE, Authorization=header).status_code in (401, 403)


# What

NAMES = {
    "onesource_turns": ("counter", {"endpoint", "pipeline", "outcome", "track"}),
    "onesource_turn_seconds": ("histogram", {"endpoint", "track"}),
    "onesource_overhead_seconds": ("histogram", set()),
    "onesource_guard_answers": ("counter", {"outcome"}),
    "onesource_guard_repairs": ("counter", {"code"}),
    "onesource_store_operations": ("counter", {"store", "op", "outcome"}),
    "onesource_store_seconds": ("histogram", {"store", "op"}),
    "onesource_context_loads": ("counter", {"outcome"}),
    "onesource_provider_requests": ("counter", {"provider", "outcome"}),
    "onesource_breaker_state": ("gauge", {"dependency"}),
    "onesource_flags_snapshot_age_seconds": ("gauge", set()),
    "onesource_content_overdue_rows": ("gauge", set()),
    "onesource_content_purged_turns": ("counter", set()),
    "onesource_build_info": ("gauge", {"version", "commit", "environment", "track"}),
}


@pytest.fixture
def scraped(client: Client, owner: Member) -> str:
    """After two turns of one session."""
    first = owner.post_json("/chat/enhanced", {"question": "How high must a handrail be?"}).json()
    owner.post_json("/chat", {"question": "And a ramp?", "session_id": first["meta"]["session_id"]})
    return scrape(client).content.decode()


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_has_the_name_and_the_labels_of_the_design(scraped: str, name: str) -> None:
    kind, labels = NAMES[name]
    (family,) = (family for family in text_string_to_metric_families(scraped) if family.name == name)
    assert family.type == kind
    assert all(sample.labels.keys() - {"le"} == labels for sample in family.samples)


def test_no_family_is_told_twice(scraped: str) -> None:
    names = [line.split()[2] for line in scraped.splitlines() if line.startswith("# TYPE ")]
    assert sorted(names) == sorted(set(names))


def test_a_turn_is_counted_once(client: Client, owner: Member) -> None:
    before = scrape(client).content.decode()
    owner.post_json("/chat", {"question": "How high must a handrail be?"})
    after = scrape(client).content.decode()
    for name in ("onesource_turns_total", "onesource_turn_seconds_count", "onesource_guard_answers_total"):
        assert total(after, name) - total(before, name) == 1


def test_http_requests_are_counted(client: Client, db: None) -> None:
    before = scrape(client).content.decode()
    for _ in range(3):
        client.get("/healthz")
    after = scrape(client).content.decode()
    name = "django_http_requests_total_by_view_transport_method_total"
    counted = samples(after)[name, (("method", "GET"), ("transport", "http"), ("view", "healthz"))]
    assert (
        counted - samples(before).get((name, (("method", "GET"), ("transport", "http"), ("view", "healthz"))), 0) == 3
    )


def test_build_info_says_what_runs_here(client: Client, db: None, settings: Any) -> None:
    settings.GIT_COMMIT, settings.RELEASE_TRACK = "abc123", "canary"
    labels = {"version": settings.VERSION, "commit": "abc123", "environment": settings.ENVIRONMENT, "track": "canary"}
    assert samples(scrape(client).content.decode())["onesource_build_info", tuple(sorted(labels.items()))] == 1


def test_contents_past_their_retention_are_counted(client: Client, db: None) -> None:
    for days in (1, 32, 33):
        content_store(
            turn_id=uuid.uuid4(), session_id=uuid.uuid4(), seq=1, subject_ref="a" * 32, payload={},
            at=timezone.now() - timedelta(days=days), retention=timedelta(days=30),
        )  # fmt: skip
    assert total(scrape(client).content.decode(), "onesource_content_overdue_rows") == 2


def test_the_age_of_the_flags_is_that_of_the_last_confirmation(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_at = snapshot.current().read_at

    def away() -> int:
        raise snapshot.SourceAway("gone")

    monkeypatch.setattr(snapshot, "_read_epoch", away)
    monkeypatch.setattr(snapshot, "_current", snapshot.Snapshot(1, read_at - 600, {}, snapshot.Rules()))
    assert 600 <= total(scrape(client).content.decode(), "onesource_flags_snapshot_age_seconds") < 700


PLANTED = "planted" + uuid.uuid4().hex
# As long as a method may be before gunicorn refuses it.
METHOD = PLANTED[:20].upper()


def test_no_label_takes_a_value_that_a_caller_chose(client: Client, owner: Member) -> None:
    client.raise_request_exception = False
    owner.post_json("/chat", {"question": PLANTED, "topics": [PLANTED]})
    owner.post_json("/chat", {"question": PLANTED, PLANTED: 1})
    owner.get(f"/chat/sessions/{uuid.uuid4()}", **{PLANTED: PLANTED})
    client.get(f"/{PLANTED}?{PLANTED}")
    client.generic(METHOD, "/healthz")
    client.generic(
        "GET", "/healthz", headers={"Accept": f"text/{PLANTED}", "User-Agent": PLANTED, "X-Request-ID": PLANTED}
    )
    client.post("/accounts/login", {"username": PLANTED, "password": PLANTED})
    client.generic("POST", "/chat", b"x", content_type=f"text/{PLANTED}; charset={PLANTED}")
    client.get("/healthz", headers={"Host": f"{PLANTED.lower()}.example"})
    text = scrape(client).content.decode().lower()
    assert METHOD.lower() not in text


def test_more_callers_and_sessions_make_no_more_series(client: Client, owner: Member, stranger: Member) -> None:
    owner.post_json("/chat", {"question": "How high must a handrail be?"})
    before = samples(scrape(client).content.decode()).keys()
    for member in (owner, stranger):
        for _ in range(3):
            member.post_json("/chat", {"question": f"How high must a handrail be, {uuid.uuid4()}?"})
            member.get(f"/chat/sessions/{uuid.uuid4()}")
    after = samples(scrape(client).content.decode()).keys()
    assert {series for series in after - before if series[0].startswith("onesource_")} == set()


# Several workers


@pytest.fixture(scope="module")
def server(gunicorn_server: Callable[..., Gunicorn]) -> Gunicorn:
    return gunicorn_server({"RELEASE_TRACK": "canary"}, fresh=True, workers=2)


def asked(server: Gunicorn) -> float:
    return total(server.get("/metrics", token="").body.decode(), "onesource_turns_total")


def test_two_workers_count_together_and_a_dead_one_s_count_stays(server: Gunicorn) -> None:
    before = asked(server)
    served_by: set[str] = set()
    for number in range(1, 41):
        assert server.post_json("/chat", {"question": "How high must a handrail be?"}).status in (200, 429)
        served_by = {path.name for path in server.process.directory.glob("metrics/counter_*.db")}
        if number >= 6 and len(served_by) == 2:
            break
    counted = asked(server)
    assert len(served_by) == 2
    assert counted - before >= 6
    # Whichever worker answers, it tells the same.
    assert {asked(server) for _ in range(6)} == {counted}
    killed = server.kill()
    server.wait_workers(without=killed)
    assert asked(server) == counted


def test_what_is_measured_at_the_scrape_is_told_once(server: Gunicorn) -> None:
    text = server.get("/metrics", token="").body.decode()
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    assert families.count("onesource_build_info") == 1
    assert sorted(families) == sorted(set(families))
    assert 'track="canary"' in text


def test_no_series_has_the_pid_of_a_worker(server: Gunicorn) -> None:
    assert "pid=" not in server.get("/metrics", token="").body.decode()
