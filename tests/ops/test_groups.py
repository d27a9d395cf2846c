"""The three groups and what each may do, made by migration."""

import pytest
from django.contrib.auth.models import Group, Permission

from tests.cast import Member

pytestmark = pytest.mark.django_db

VIEW_FLAGS = {"flags.view_flag", "flags.view_switch", "flags.view_setting"}
CHANGE_FLAGS = {"flags.change_flag", "flags.change_switch", "flags.change_setting"}
GROUPS = {
    "flag managers": VIEW_FLAGS | CHANGE_FLAGS,
    "compliance reviewers": VIEW_FLAGS | {"audit.view_event", "audit.reveal_content", "audit.export_proof"},
    "operators": VIEW_FLAGS | {"ops.operate"},
}


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_may_do_its_own_and_nothing_more(name: str) -> None:
    granted = Group.objects.get(name=name).permissions.values_list("content_type__app_label", "codename")
    assert {f"{app}.{codename}" for app, codename in granted} == GROUPS[name]


def test_there_are_no_other_groups() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == set(GROUPS)


@pytest.mark.parametrize(
    ("member", "group"),
    [("flag_manager", "flag managers"), ("reviewer", "compliance reviewers"), ("operator", "operators")],
)
def test_a_member_has_the_permissions_of_the_group(request: pytest.FixtureRequest, member: str, group: str) -> None:
    user = request.getfixturevalue(member).user
    assert user.get_all_permissions() == GROUPS[group]


def test_a_plain_user_has_none(owner: Member) -> None:
    assert owner.user.get_all_permissions() == set()


def test_no_permission_is_there_twice() -> None:
    listed = list(Permission.objects.values_list("content_type__app_label", "content_type__model", "codename"))
    assert len(listed) == len(set(listed))
    names = Permission.objects.filter(codename__in=["operate", "reveal_content", "export_proof"])
    assert names.count() == 3


def test_nobody_but_a_superuser_may_write_the_trail() -> None:
    writing = Permission.objects.filter(content_type__app_label="audit").exclude(codename__startswith="view")
    writing = writing.exclude(codename__in=["reveal_content", "export_proof"])
    assert not Group.objects.filter(permissions__in=writing).exists()
