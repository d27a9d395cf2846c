"""The circuit breaker: opens after repeated failures, lets one caller probe, closes when that works."""

import threading

import pytest

from chat.breakers import Breaker, BreakerOpen
from chat.pipeline import provide
from tests.chat.asking import ask, turn_events


class Away(Exception):
    pass


@pytest.fixture
def breaker():
    return Breaker("tested", threshold=3, recovery_seconds=10, failure=lambda error: isinstance(error, Away))


def fail(breaker, times=1, error=Away):
    for _ in range(times):
        with pytest.raises(error), breaker.guarding():
            raise error


def test_it_is_closed_until_the_threshold(breaker):
    fail(breaker, 2)
    with breaker.guarding():
        assert breaker.state == "closed"


def test_it_opens_at_the_threshold_and_turns_callers_away(breaker):
    fail(breaker, 3)
    with pytest.raises(BreakerOpen), breaker.guarding():
        pytest.fail("the block ran")


def test_a_success_forgets_earlier_failures(breaker):
    fail(breaker, 2)
    with breaker.guarding():
        pass
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_other_errors_pass_and_do_not_count(breaker):
    fail(breaker, 5, error=ValueError)
    assert breaker.state == "closed"


def test_it_stays_open_until_the_recovery_time(breaker, clock):
    fail(breaker, 3)
    clock.advance(9.5)
    with pytest.raises(BreakerOpen), breaker.guarding():
        pass


def test_after_the_recovery_time_a_success_closes_it(breaker, clock):
    fail(breaker, 3)
    clock.advance(11)
    with breaker.guarding():
        assert breaker.state == "half_open"
    assert breaker.state == "closed"


def test_after_the_recovery_time_a_failure_opens_it_again(breaker, clock):
    fail(breaker, 3)
    clock.advance(11)
    fail(breaker, 1)
    with pytest.raises(BreakerOpen), breaker.guarding():
        pass
    clock.advance(11)
    with breaker.guarding():
        assert breaker.state == "half_open"


def test_while_one_probes_the_others_are_turned_away(breaker, clock):
    fail(breaker, 3)
    clock.advance(11)
    ran: list[str] = []

    def other():
        try:
            with breaker.guarding():
                ran.append("ran")
        except BreakerOpen:
            ran.append("turned away")

    with breaker.guarding():
        threads = [threading.Thread(target=other) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
    assert ran == ["turned away"] * 5


def test_each_change_is_logged_once(breaker, clock, caplog):
    caplog.set_level("INFO")
    fail(breaker, 3)
    for _ in range(5):
        with pytest.raises(BreakerOpen), breaker.guarding():
            pass
    clock.advance(11)
    for _ in range(5):
        with breaker.guarding():
            pass
    changes = [record for record in caplog.records if "breaker.changed" in record.getMessage()]
    assert len(changes) == 2


@pytest.mark.django_db
def test_a_model_server_that_fails_is_left_alone_after_five_turns(owner, model):
    model.reply("status", status=500)
    answers = [ask(owner) for _ in range(8)]
    assert all(answer["meta"]["degraded"] for answer in answers)
    assert len(model.requests) == 10
    assert b'"failure":"breaker_open"' in bytes(turn_events().last().body)


@pytest.mark.django_db
def test_a_model_server_that_is_back_is_used_again(owner, model, clock):
    model.reply("status", status=500)
    for _ in range(6):
        ask(owner)
    model.reply("good")
    assert ask(owner)["meta"]["degraded"] is True
    clock.advance(11)
    assert [ask(owner)["meta"]["degraded"] for _ in range(3)] == [False] * 3
    assert provide.BREAKER.state == "closed"


@pytest.mark.django_db
def test_a_question_that_is_refused_does_not_open_the_breaker(owner, model):
    model.reply("status", status=400)
    for _ in range(7):
        ask(owner)
    assert provide.BREAKER.state == "closed"
    assert len(model.requests) == 7


@pytest.mark.django_db(transaction=True)
def test_a_stalling_model_server_holds_up_one_prober_only(owner, model, clock, flag):
    flag("LLM_TIMEOUT_MS", 500)
    model.reply("status", status=500)
    for _ in range(5):
        ask(owner)
    clock.advance(11)
    model.reset()
    model.reply("stall")
    answers: list[dict] = []

    def run():
        from django.db import connection

        answers.append(ask(owner))
        connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [answer["meta"]["degraded"] for answer in answers] == [True] * 4
    assert len(model.requests) == 1
