"""Kinds of events are registered: an unknown or incomplete event is refused before anything is written."""

import pytest

from audit import actions
from audit.models import Event, Stream
from audit.services import event_record

KINDS = (
    "turn.completed", "session.deleted", "export.made", "flag.changed",
    "content.purged", "login.succeeded", "login.failed", "logout",
    "token.created", "token.revoked",
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_registered_with_a_label_that_people_can_read(name: str) -> None:
    kind = actions.KINDS[name]
    assert kind.name == name
    assert kind.label[0].isupper()
    assert len(name) <= Event._meta.get_field("kind").max_length


@pytest.mark.parametrize("name", ["", "turn.complete", "TURN.COMPLETED", "turn.completed ", "nonsense"])
def test_an_unknown_kind_is_refused(db: None, name: str) -> None:
    with pytest.raises(actions.UnknownKind, match="not a registered audit kind"):
        event_record(kind=name, stream="s", actor_ref="", facts={})
    assert not Event.objects.filter(stream="s").exists()
    assert not Stream.objects.filter(name="s").exists()


@pytest.mark.parametrize("missing", ["key", "old", "new", "reason", "source", "epoch"])
def test_a_missing_fact_is_named(db: None, missing: str) -> None:
    facts = {"key": "K", "old": None, "new": None, "reason": "", "source": "tests", "epoch": 1}
    del facts[missing]
    with pytest.raises(actions.IncompleteFacts, match=f"flag.changed needs {missing}"):
        event_record(kind=actions.FLAG_CHANGED, stream="s", actor_ref="", facts=facts)
    assert not Event.objects.filter(stream="s").exists()


def test_a_fact_that_is_none_is_not_missing() -> None:
    actions.check(actions.LOGIN_FAILED, {"identifier_hash": None})
    with pytest.raises(actions.IncompleteFacts):
        actions.check(actions.LOGIN_FAILED, {})


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        actions.register("login.failed", "Again")
    assert actions.KINDS["login.failed"].label == "Sign-in refused"
