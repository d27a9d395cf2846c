import io
import json
import shutil

import pytest
from django.core.management import call_command

from knowledge import selectors
from knowledge.models import Document, Passage
from knowledge.pack import STARTER, PackError, pack_files
from knowledge.services import pack_load

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path):
    """A copy of two files of the pack, as the whole of it."""
    copy = tmp_path / "starter"
    copy.mkdir()
    for name in ("backflow.json", "wind.json"):
        shutil.copy(STARTER / name, copy)
    return copy


def sources():
    return set(Document.objects.filter(kind=Document.Kind.PACK).values_list("source", flat=True))


def test_every_fact_has_its_note():
    assert Passage.objects.filter(document__kind=Document.Kind.PACK).values("key").distinct().count() == 168


def test_every_note_is_asked_for_in_many_ways():
    for file in pack_files():
        for note in file.notes:
            assert len(note["asked_as"]) >= 12, note["id"]
            assert note["confidence"] == "verified" or note["caution"].startswith("Likely, not confirmed:"), note["id"]
            assert all(figure in note["text"] for figure in note["figures"]), note["id"]


def test_again_costs_one_query(django_assert_num_queries):
    pack_load()

    with django_assert_num_queries(1):  # sources and hashes
        assert pack_load().changed == 0


def test_a_changed_file_replaces_its_notes_and_a_vanished_one_goes(folder):
    pack_load(folder=folder)
    assert sources() == {"starter/backflow", "starter/wind"}
    version = selectors.index_version()
    content = json.loads((folder / "wind.json").read_text("utf-8"))
    content["notes"] = content["notes"][:1]
    (folder / "wind.json").write_text(json.dumps(content), "utf-8")

    loaded = pack_load(folder=folder)

    assert (loaded.changed, loaded.removed) == (1, 0)
    assert Passage.objects.filter(document__source="starter/wind").count() == 1
    assert selectors.index_version() != version
    (folder / "wind.json").unlink()
    assert pack_load(folder=folder).removed == 1
    assert sources() == {"starter/backflow"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: "{",
        lambda content: json.dumps({"document": content["document"]}),
        lambda content: json.dumps({**content, "notes": [{**content["notes"][0], "text": ""}]}),
        lambda content: json.dumps({**content, "notes": [{**content["notes"][0], "asked_as": "how"}]}),
        lambda content: json.dumps([]),
    ],
)
def test_a_spoilt_file_is_named_and_nothing_is_written(folder, spoil):
    before = sources()
    content = json.loads((folder / "wind.json").read_text("utf-8"))
    (folder / "wind.json").write_text(spoil(content), "utf-8")

    with pytest.raises(PackError, match=r"wind\.json"):
        pack_load(folder=folder)

    assert sources() == before


def test_command():
    out = io.StringIO()

    call_command("knowledge", "load-pack", stdout=out)

    assert out.getvalue() == "41 documents of the starter pack, nothing changed.\n"
