"""API tokens in the admin: made and deleted there, never edited."""

from typing import Any

import pytest
from knox.models import AuthToken

from tests.cast import Member

pytestmark = pytest.mark.django_db
LIST = "/admin/knox/authtoken/"


def change(member: Member, row: AuthToken, **form: Any) -> Any:
    return member.browser.post(f"{LIST}{row.pk}/change/", {"token_key": row.token_key, **form})


def test_a_token_cannot_be_given_to_somebody_else(admin: Member, owner: Member) -> None:
    row = AuthToken.objects.get(user=owner.user)
    assert change(admin, row, digest=row.digest, user=admin.user.pk).status_code == 403
    assert AuthToken.objects.get(user=owner.user).digest == row.digest


def test_a_digest_cannot_be_replaced(admin: Member, owner: Member) -> None:
    row = AuthToken.objects.get(user=owner.user)
    assert change(admin, row, digest="0" * 128, user=owner.user.pk).status_code == 403
    assert owner.get("/flags").status_code == 200


def test_a_page_shows_a_token_and_edits_nothing(admin: Member, owner: Member) -> None:
    row = AuthToken.objects.get(user=owner.user)
    page = admin.browser.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "owner" in page
    assert 'name="user"' not in page
    assert 'name="digest"' not in page
    assert 'name="_save"' not in page


def test_a_token_is_made_and_deleted(admin: Member, owner: Member) -> None:
    AuthToken.objects.filter(user=owner.user).delete()
    made = admin.browser.post(f"{LIST}add/", {"user": owner.user.pk}, follow=True)
    assert "TOKEN " in made.content.decode()
    row = AuthToken.objects.get(user=owner.user)
    assert admin.browser.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not AuthToken.objects.filter(user=owner.user).exists()
