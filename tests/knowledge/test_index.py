"""The index on disk: rebuilt when behind or broken, whole for every reader, by whichever process comes first."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from knowledge import index, selectors
from knowledge.index import Holder, index_open
from knowledge.retrieval import search
from knowledge.services import index_version_advance, pack_load

pytestmark = pytest.mark.django_db


@pytest.fixture
def directory(settings, tmp_path):
    settings.KNOWLEDGE_INDEX_DIR = tmp_path / "index"
    return tmp_path / "index"


def built(directory):
    return sorted(path.name for path in directory.iterdir() if path.is_dir())


def test_built_when_missing_and_kept(directory):
    assert index_open("7-a").searcher().num_docs == 168
    written = (directory / f"{index.FORMAT}-7-a" / "meta.json").stat().st_mtime_ns

    index_open("7-a")

    assert (directory / f"{index.FORMAT}-7-a" / "meta.json").stat().st_mtime_ns == written
    assert built(directory) == [f"{index.FORMAT}-7-a"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / "meta.json").write_text("{"),
        lambda path: (path / "meta.json").unlink(),
        # In another file's place: a thread of the index opened before may still read the one that it has mapped.
        lambda path: [(file.unlink(), file.write_bytes(b"")) for file in path.glob("*.term")],
        lambda path: [file.unlink() for file in path.iterdir()],
    ],
)
def test_a_broken_directory_is_built_again(directory, spoil):
    index_open("7-a")
    spoil(directory / f"{index.FORMAT}-7-a")

    assert index_open("7-a").searcher().num_docs == 168


def test_the_version_before_stays_and_older_ones_go(directory):
    for version in ("1-a", "2-a", "3-a"):
        index_open(version)

    assert built(directory) == [f"{index.FORMAT}-2-a", f"{index.FORMAT}-3-a"]


def test_nothing_is_left_of_a_build_that_fails(directory, monkeypatch):
    def failing():
        yield from list(selectors.passages_for_index())[:3]
        raise RuntimeError("the database went away")

    monkeypatch.setattr(index.selectors, "passages_for_index", failing)

    with pytest.raises(RuntimeError):
        index_open("7-a")

    assert built(directory) == []


@pytest.mark.django_db(transaction=True)
def test_many_openers_at_once_build_once(directory, monkeypatch):
    builds = []
    build = index._build
    monkeypatch.setattr(index, "_build", lambda path: (builds.append(path), build(path)))
    start = threading.Barrier(6)

    def opened(_):
        from django.db import connection

        start.wait()
        try:
            return index_open("7-a").searcher().num_docs
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(opened, range(6))) == {168}
    assert len(builds) == 1


def test_a_lock_that_is_never_released_is_reported(directory, monkeypatch):
    monkeypatch.setattr(index, "LOCK_WAIT_SECONDS", 0.1)
    directory.mkdir()

    with index._locked(directory / ".lock"), pytest.raises(TimeoutError, match="has been locked"):
        index_open("7-a")


def test_the_version_is_asked_for_at_most_every_few_seconds(directory, django_assert_num_queries):
    holder = Holder()
    first = holder.current()

    with django_assert_num_queries(0):
        assert holder.current() is first


def test_a_new_version_is_noticed(directory):
    holder = Holder()
    first = holder.current()
    index_version_advance()

    holder.forget()

    assert holder.current().version == selectors.index_version() != first.version


def test_one_thread_refreshes_while_others_keep_the_old_snapshot(directory):
    holder = Holder()
    first = holder.current()
    index_version_advance()
    holder.forget()

    with holder._lock:
        assert holder.current() is first


def test_a_directory_that_goes_bad_under_us_costs_no_question(directory):
    index.snapshot_forget()
    assert search("handrail height house")[0].key == "handrail-hp"

    index.snapshot_forget(broken=True)

    assert search("handrail height house")[0].key == "handrail-hp"
    pack_load()
