"""Copies in the hot stores are under the data key of the turn's recorded content."""

import sys
import uuid
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from audit import content, keys
from audit.models import ContentKey, TurnContent
from audit.services import content_store
from chat.stores import sealing
from chat.stores.conversation import hot_stores
from tests.chat.asking import converse

# The append follows the commit.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("store", ["redis", "mongo"])
def test_erasing_the_data_key_erases_every_copy(request, owner, store):
    request.getfixturevalue(f"{store}_configured")
    session_id = converse(owner, "How high must a handrail be in a house?", "And its width?")[0]["meta"]["session_id"]
    held = hot_stores()[store].load(uuid.UUID(session_id), 10)
    assert len(held) == 4
    assert {message.key_id for message in held} == {ContentKey.objects.get().pk}
    TurnContent.objects.all().delete()
    ContentKey.objects.all().delete()
    keys._kept_keys.clear()
    assert hot_stores()[store].load(uuid.UUID(session_id), 10) == []


def test_a_key_of_a_transaction_that_failed_is_not_kept():
    """Its row's number goes to the next key, under which everything would be sealed wrongly."""
    kept = {
        "turn_id": uuid.uuid4(), "session_id": uuid.uuid4(), "seq": 1, "subject_ref": "subject", "payload": {},
        "at": timezone.now(), "retention": timedelta(days=1),
    }  # fmt: skip
    with suppress(ZeroDivisionError), transaction.atomic():
        content_store(**kept)
        raise ZeroDivisionError
    assert keys._kept_keys == {}
    with transaction.atomic():
        content_store(**kept)
    assert keys._kept_keys.keys() == {ContentKey.objects.get().pk}


def test_nothing_keeps_a_data_key_but_what_forgets_it():
    secret = bytes(bytearray(content.KEY_BYTES))
    before = sys.getrefcount(secret)
    sealing._session_key(uuid.uuid4(), secret)
    assert sys.getrefcount(secret) == before
