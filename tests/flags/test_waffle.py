"""Code that asks waffle's own functions gets what the snapshot says."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.test import RequestFactory
from waffle import flag_is_active, switch_is_active

from flags import snapshot
from flags.models import Flag, Switch
from flags.selectors import subject_of
from tests.cast import Member

PIPELINE, DUAL = "USE_UNIFIED_PIPELINE", "CONV_DUAL_WRITE"


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    """waffle keeps rows in Django's cache, which outlives a test."""
    cache.clear()


def request_of(user: Any) -> Any:
    request = RequestFactory().get("/")
    request.user = user
    return request


def agrees(user: Any) -> bool:
    subject = subject_of(user) if user.is_authenticated else None
    snapshot.reset()
    told = flag_is_active(request_of(user), PIPELINE)
    return told is snapshot.current().boolean(PIPELINE, subject)


@pytest.mark.parametrize("everyone", [True, False, None])
@pytest.mark.parametrize("share", [0, 5000, 10_000])
def test_a_flag_agrees_for_those_with_an_account_and_those_without(
    owner: Member, stranger: Member, everyone: bool | None, share: int
) -> None:
    Flag.objects.filter(name=PIPELINE).update(everyone=everyone, rollout_bp=share)
    assert [agrees(user) for user in (owner.user, stranger.user, AnonymousUser())] == [True, True, True]


def test_a_flag_agrees_for_the_listed(owner: Member, stranger: Member) -> None:
    flag = Flag.objects.get(name=PIPELINE)
    flag.everyone = None
    flag.save()
    flag.users.add(owner.user)
    snapshot.reset()
    told = [flag_is_active(request_of(member.user), PIPELINE) for member in (owner, stranger)]
    assert told == [True, False]


@pytest.mark.parametrize("rank", [{"is_superuser": True}, {"is_staff": True}])
def test_rank_alone_admits_nobody(owner: Member, rank: dict[str, bool]) -> None:
    Flag.objects.filter(name=PIPELINE).update(everyone=None, superusers=True, staff=True, authenticated=True)
    for name, value in rank.items():
        setattr(owner.user, name, value)
    snapshot.reset()
    assert flag_is_active(request_of(owner.user), PIPELINE) is False


def test_a_flag_that_was_asked_before_is_not_kept_in_a_cache(owner: Member) -> None:
    assert flag_is_active(request_of(owner.user), PIPELINE) is True
    Flag.objects.filter(name=PIPELINE).update(everyone=False)
    snapshot.reset()
    assert flag_is_active(request_of(owner.user), PIPELINE) is False


def test_a_pinned_flag_agrees(owner: Member, override_pins: Callable[..., None]) -> None:
    override_pins(USE_UNIFIED_PIPELINE=False)
    assert flag_is_active(request_of(owner.user), PIPELINE) is False


@pytest.mark.parametrize("active", [True, False])
def test_a_switch_agrees(db: None, active: bool) -> None:
    Switch.objects.filter(name=DUAL).update(active=active)
    snapshot.reset()
    assert switch_is_active(DUAL) is snapshot.current().boolean(DUAL) is active


def test_a_switch_that_was_asked_before_is_not_kept_in_a_cache(db: None) -> None:
    assert switch_is_active(DUAL) is False
    Switch.objects.filter(name=DUAL).update(active=True)
    snapshot.reset()
    assert switch_is_active(DUAL) is True


def test_a_pinned_switch_agrees(db: None, override_pins: Callable[..., None]) -> None:
    override_pins(CONV_DUAL_WRITE=True)
    assert switch_is_active(DUAL) is True
