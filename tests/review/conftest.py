import uuid
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from chat.models import Turn
from tests.cast import Member
from tests.chat.asking import ask
from tests.review.turns import QUESTION


@pytest.fixture
def asked(owner: Member) -> Turn:
    """A turn of the owner's, recorded as every turn is."""
    answer = ask(owner, QUESTION)
    return Turn.objects.select_related("session").get(pk=uuid.UUID(answer["meta"]["turn_id"]))


@pytest.fixture
def nobody() -> Client:
    return Client()


@pytest.fixture
def refuse(db: None) -> Any:
    """refuse(kind): from now on the database takes no event of this kind. `state` is what PostgreSQL calls the refusal;
    any but a constraint's is an OperationalError on SQLite."""

    def refuse_kind(kind: str, state: str = "integrity_constraint_violation") -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                refused = "RAISE(ABORT, 'refused')" if state.startswith("integrity") else "json('no JSON')"
                cursor.execute(
                    "CREATE TRIGGER refused BEFORE INSERT ON audit_event "
                    f"WHEN NEW.kind = '{kind}' BEGIN SELECT {refused}; END"
                )
                return
            cursor.execute(
                "CREATE FUNCTION refused() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{state}'; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER refused BEFORE INSERT ON audit_event "
                f"FOR EACH ROW WHEN (NEW.kind = '{kind}') EXECUTE FUNCTION refused()"
            )

    return refuse_kind
