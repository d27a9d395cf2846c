"""What the matcher has learned is kept on disk, and only what was kept here is loaded."""

import pytest

from knowledge.learned import MAC_BYTES, PREFIX, learned


@pytest.fixture
def directory(settings, tmp_path):
    settings.KNOWLEDGE_INDEX_DIR = tmp_path
    return tmp_path


class Lesson:
    """Counts how often it is learned."""

    def __init__(self, result):
        self.result = result
        self.times = 0

    def __call__(self):
        self.times += 1
        return self.result


def files(directory):
    return sorted(directory.glob(f"{PREFIX}*"))


def test_it_is_learned_once(directory):
    first, second = Lesson({"a": [1, 2]}), Lesson("never asked for")
    assert learned(first, depends_on="notes") == learned(second, depends_on="notes") == {"a": [1, 2]}
    assert (first.times, second.times) == (1, 0)


def test_other_notes_are_learned_anew(directory):
    assert learned(Lesson(1), depends_on="notes") == 1
    assert learned(Lesson(2), depends_on="other notes") == 2
    assert len(files(directory)) == 2


@pytest.mark.parametrize("spoil", ["cut", "changed", "emptied", "another key"])
def test_a_file_that_is_not_ours_as_it_was_is_learned_anew(directory, settings, spoil):
    learned(Lesson("right"), depends_on="notes")
    (path,) = files(directory)
    kept = path.read_bytes()
    if spoil == "another key":
        settings.SECRET_KEY = "somebody else's"
    else:
        path.write_bytes({"cut": kept[:-1], "changed": kept[:-1] + b"\x00", "emptied": b""}[spoil])
    again = Lesson("right again")
    assert learned(again, depends_on="notes") == "right again"
    assert again.times == 1
    assert path.read_bytes()[MAC_BYTES:] != kept[MAC_BYTES:]


def test_a_disk_that_cannot_be_written_costs_only_time(settings, tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("no directory")
    settings.KNOWLEDGE_INDEX_DIR = occupied
    assert learned(Lesson("all the same"), depends_on="notes") == "all the same"


def test_older_files_go(directory):
    for number in range(5):
        learned(Lesson(number), depends_on=number)
    assert len(files(directory)) == 2
