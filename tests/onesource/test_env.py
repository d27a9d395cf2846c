"""The typed readers of environment variables."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from onesource import env

NAME = "ONESOURCE_TEST_VARIABLE"


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda value: monkeypatch.setenv(NAME, value)


@pytest.mark.parametrize("value", ["1", "true", "YES", "on", " True "])
def test_the_words_for_true(variable: Any, value: str) -> None:
    variable(value)
    assert env.boolean(NAME, False) is True


@pytest.mark.parametrize("value", ["0", "false", "NO", "off", " False "])
def test_the_words_for_false(variable: Any, value: str) -> None:
    variable(value)
    assert env.boolean(NAME, True) is False


@pytest.mark.parametrize("value", ["2", "maybe", "tru", "-1", "1.0", "on off", "ja", "yes!", "null"])
def test_another_word_is_no_boolean(variable: Any, value: str) -> None:
    variable(value)
    with pytest.raises(env.EnvError, match=NAME) as caught:
        env.boolean(NAME, False)
    assert caught.value.name == NAME
    assert "expected" in str(caught.value)


@pytest.mark.parametrize("value", ["10", "100", " 42 "])
def test_a_whole_number_within_its_bounds_is_read(variable: Any, value: str) -> None:
    variable(value)
    assert env.integer(NAME, 11, minimum=10, maximum=100) == int(value)


@pytest.mark.parametrize("value", ["9", "101", "-10", "1e2", "10.0", "ten", "0x10", "1 0", "10;", "NaN", "inf"])
def test_a_number_that_is_not_whole_or_out_of_bounds_is_refused(variable: Any, value: str) -> None:
    variable(value)
    with pytest.raises(env.EnvError, match=NAME):
        env.integer(NAME, 11, minimum=10, maximum=100)


def test_a_refused_number_is_told_its_bounds(variable: Any) -> None:
    variable("70000")
    with pytest.raises(env.EnvError, match="expected 1 to 65535"):
        env.integer(NAME, 8000, minimum=1, maximum=65535)


@pytest.mark.parametrize("value", ["third", "FIRST", "first,second", "firs"])
def test_a_choice_is_one_of_those_named(variable: Any, value: str) -> None:
    variable(value)
    with pytest.raises(env.EnvError, match=f"{NAME}.*first, second"):
        env.choice(NAME, "first", ("first", "second"))


def test_a_listing_leaves_out_blanks(variable: Any) -> None:
    variable(" a.example, ,b.example,,")
    assert env.listing(NAME) == ["a.example", "b.example"]


@pytest.mark.parametrize("value", ["https://model.example/v1", "http://[::1]:8080"])
def test_a_url_of_a_wanted_scheme_is_read(variable: Any, value: str) -> None:
    variable(value)
    assert env.url(NAME, "", ("http", "https")) == value


@pytest.mark.parametrize(
    "value", ["model.example", "ftp://model.example", "localhost:8080", "//x", "http//x", "http://["]
)
def test_another_url_is_refused_by_the_name_of_the_variable(variable: Any, value: str) -> None:
    variable(value)
    with pytest.raises(env.EnvError, match=NAME):
        env.url(NAME, "", ("http", "https"))


def test_a_refused_url_is_not_repeated_for_it_may_hold_a_password(variable: Any) -> None:
    variable("mysql://user:planted-password@host/db")
    with pytest.raises(env.EnvError) as caught:
        env.url(NAME, "", ("postgres",))
    assert "planted-password" not in str(caught.value)


@pytest.mark.parametrize("value", ["10.0.0.0/33", "office", "10.0.0.1/8", "127.0.0.1,x", "::1/129", "10.0.0.0/8 ::1"])
def test_networks_that_are_none_are_refused_by_the_name_of_the_variable(variable: Any, value: str) -> None:
    variable(value)
    with pytest.raises(env.EnvError, match=NAME):
        env.networks(NAME, "")


def test_networks_are_read_of_both_families(variable: Any) -> None:
    variable("10.0.0.0/8, ::1/128,192.0.2.7")
    assert [str(network) for network in env.networks(NAME, "")] == ["10.0.0.0/8", "::1/128", "192.0.2.7/32"]


@pytest.mark.parametrize("value", ["", "   ", "\t"])
def test_an_empty_variable_counts_as_absent(variable: Any, value: str) -> None:
    variable(value)
    assert env.text(NAME, "default") == "default"
    assert env.boolean(NAME, True) is True
    assert env.integer(NAME, 7, minimum=0, maximum=9) == 7
    assert env.choice(NAME, "a", ("a", "b")) == "a"
    assert env.listing(NAME, "x,y") == ["x", "y"]
    assert env.url(NAME, "http://h", ("http",)) == "http://h"
    assert env.secret(NAME) == ""


# Secrets


def test_a_secret_comes_from_its_variable(variable: Any) -> None:
    variable("from the variable")
    assert env.secret(NAME) == "from the variable"


def test_a_secret_comes_from_the_file_that_its_file_variable_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("from the file\n", encoding="utf-8")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "secret"))
    assert env.secret(NAME) == "from the file"


def test_a_secret_that_is_set_twice_is_refused(variable: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("planted-in-file", encoding="utf-8")
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "secret"))
    variable("planted-in-variable")
    with pytest.raises(env.EnvError, match=f"either {NAME} or {NAME}_FILE") as caught:
        env.secret(NAME)
    assert "planted" not in str(caught.value)


def test_a_secret_file_that_is_not_there_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(f"{NAME}_FILE", str(tmp_path / "absent"))
    with pytest.raises(env.EnvError) as caught:
        env.secret(NAME)
    assert caught.value.name == f"{NAME}_FILE"


@pytest.mark.parametrize("kind", ["directory", "binary"])
def test_a_secret_file_that_holds_no_text_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    path = tmp_path
    if kind == "binary":
        path = tmp_path / "binary"
        path.write_bytes(b"\xff\xfe\x00")
    monkeypatch.setenv(f"{NAME}_FILE", str(path))
    with pytest.raises(env.EnvError, match=f"{NAME}_FILE"):
        env.secret(NAME)


def test_a_secret_is_made_once_and_then_kept(tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    first = env.secret_or_made(NAME, directory, lambda: "made first", required=False)
    second = env.secret_or_made(NAME, directory, lambda: "made second", required=False)
    assert first == second == "made first"


def test_a_made_secret_is_for_its_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        env.secret_or_made(NAME, tmp_path / "secrets", lambda: "made", required=False)
    finally:
        os.umask(umask)
    (made,) = (tmp_path / "secrets").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700


def test_a_secret_that_is_set_is_not_made(variable: Any, tmp_path: Path) -> None:
    variable("given")
    assert env.secret_or_made(NAME, tmp_path / "secrets", lambda: "made", required=False) == "given"
    assert not (tmp_path / "secrets").exists()


def test_a_required_secret_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(env.EnvError, match=rf"{NAME}: is required.*{NAME}_FILE"):
        env.secret_or_made(NAME, tmp_path / "secrets", lambda: "made", required=True)
    assert not (tmp_path / "secrets").exists()
