"""flags.testing.override."""

import pytest

from flags import snapshot
from flags.registry import BadValue, UnknownFlag
from flags.snapshot import Subject
from flags.testing import override

KILL, TURNS = "USE_UNIFIED_PIPELINE", "CONV_MAX_TURNS"


def test_a_flag_is_off_within_the_block_and_no_database_is_asked() -> None:
    # pytest-django fails any query of a test that has not asked for the database.
    with override(**{KILL: False, TURNS: 3}):
        assert snapshot.current().boolean(KILL, Subject("anyone")) is False
        assert snapshot.current().number(TURNS) == 3
        with override(**{KILL: True}):
            assert snapshot.current().boolean(KILL) is True
            assert snapshot.current().number(TURNS) == 3
        assert snapshot.current().boolean(KILL) is False


@override(USE_UNIFIED_PIPELINE=False)
def test_it_decorates_a_test() -> None:
    assert snapshot.current().boolean(KILL) is False


@pytest.mark.django_db
def test_afterwards_all_is_as_before() -> None:
    with pytest.raises(ZeroDivisionError), override(**{KILL: False}):
        raise ZeroDivisionError
    assert snapshot.current().boolean(KILL) is True


def test_it_takes_only_what_the_flag_can_be() -> None:
    with pytest.raises(BadValue), override(**{TURNS: 1000}):
        pass
    with pytest.raises(UnknownFlag), override(NOPE=True):
        pass
