"""Proof and verification of one turn, and the checkpoints."""

import json
from typing import Any

import pytest

from audit.merkle import verify_inclusion
from audit.models import Checkpoint, Event, Leaf, Tile
from audit.sealing import log_seal
from chat.models import Turn
from tests.cast import Member
from tests.chat.asking import ask, problem_of
from tests.review.turns import API, AUDIT, REASON, page_of, turns_make
from tests.tampering import tamper

pytestmark = pytest.mark.django_db


@pytest.fixture
def sealed(asked: Turn) -> Turn:
    log_seal()
    return asked


def verify(member: Member, turn: Turn) -> str:
    response = member.browser.post(f"{AUDIT}turns/{turn.pk}/verify")
    assert response.status_code == 200
    text: str = response.content.decode()
    return text.split('id="integrity"')[1].split("</section>")[0]


def test_a_proof_leads_from_the_event_to_a_signed_root(reviewer: Member, sealed: Turn) -> None:
    proof = reviewer.get(f"{API}turns/{sealed.pk}/proof").json()
    hashes = [bytes.fromhex(text) for text in proof["hashes"]]
    leaf, root = bytes.fromhex(proof["leaf"]), bytes.fromhex(proof["root"])
    assert verify_inclusion(leaf, proof["index"], proof["size"], hashes, root) is None
    assert leaf == bytes(Event.objects.get(uid=sealed.event_uid).leaf)
    assert proof["note"] == Checkpoint.objects.get(size=proof["size"]).note


def test_the_page_of_the_proof_has_all_of_it(reviewer: Member, sealed: Turn) -> None:
    proof = reviewer.get(f"{API}turns/{sealed.pk}/proof").json()
    page = page_of(reviewer, f"{AUDIT}turns/{sealed.pk}/proof")
    assert all(text in page for text in (*proof["hashes"], proof["leaf"], proof["root"]))
    assert proof["note"].splitlines()[2].replace("+", "&#43;") in page.replace("+", "&#43;")


def test_before_sealing_it_is_409_and_says_when_to_come_again(reviewer: Member, asked: Turn) -> None:
    response = reviewer.get(f"{API}turns/{asked.pk}/proof")
    problem_of(response, 409, "not_sealed_yet")
    assert response.headers["Retry-After"] == "10"
    page = reviewer.browser.get(f"{AUDIT}turns/{asked.pk}/proof", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["Retry-After"]) == (409, "10")
    assert "not yet in the log" in page.content.decode()


def test_a_damaged_log_proves_nothing_and_says_so(reviewer: Member, sealed: Turn) -> None:
    tamper('DELETE FROM audit_leaf WHERE "index" = 0')
    problem_of(reviewer.get(f"{API}turns/{sealed.pk}/proof"), 409, "log_damaged")
    assert "failed" in verify(reviewer, sealed)


def test_a_turn_whose_event_is_gone_has_no_proof(reviewer: Member) -> None:
    (turn,) = turns_make()
    problem_of(reviewer.get(f"{API}turns/{turn.pk}/proof"), 404, "event_not_found")
    assert "not in the trail" in verify(reviewer, turn)


@pytest.mark.parametrize("turn_id", ["x", "00000000-0000-4000-8000-000000000000"])
def test_a_turn_that_nobody_has_is_404(reviewer: Member, turn_id: str) -> None:
    problem_of(reviewer.get(f"{API}turns/{turn_id}/proof"), 404, "turn_not_found")
    assert reviewer.browser.post(f"{AUDIT}turns/{turn_id}/verify").status_code == 404


def test_what_is_as_it_was_recorded_verifies(reviewer: Member, sealed: Turn) -> None:
    found = verify(reviewer, sealed)
    assert "Verified: everything is as it was recorded." in found
    assert "failed" not in found
    for name in ("Record", "Place in the log", "Signature", "Facts"):
        assert f'<th scope="row">{name}</th><td>good</td>' in found


def test_before_sealing_it_does_not_verify_yet(reviewer: Member, asked: Turn) -> None:
    found = verify(reviewer, asked)
    assert "Not verified" in found
    assert "sealer" in found


def test_an_edited_body_is_named(reviewer: Member, sealed: Turn) -> None:
    event = Event.objects.get(uid=sealed.event_uid)
    body = bytes(event.body).replace(b'"turn":1', b'"turn":2')
    tamper("UPDATE audit_event SET body = %s WHERE id = %s", body, event.pk)
    found = verify(reviewer, sealed)
    assert '<th scope="row">Record</th><td><strong class="unknown">failed</strong>' in found


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": "refused"},
        {"model": "another"},
        {"repair_codes": ["FENCE"]},
        {"references": [{"text": "Z9Z99", "known": True}]},
        {"total_us": 1},
        {"completion_tokens": 99_999},
    ],
)
def test_edited_facts_are_named(reviewer: Member, sealed: Turn, fields: dict[str, Any]) -> None:
    Turn.objects.filter(pk=sealed.pk).update(**fields)
    found = verify(reviewer, sealed)
    assert '<th scope="row">Facts</th><td><strong class="unknown">failed</strong>' in found


def test_a_repaired_answer_with_references_verifies(reviewer: Member, owner: Member, openai_configured: Any) -> None:
    draft = {"title": "T", "summary": "See D3D14 and Z9Z99.", "blocks": ["AS 1428.1 as well"]}
    openai_configured.reply(text="```\n" + json.dumps(draft) + "\n```")
    turn = Turn.objects.get(pk=ask(owner)["meta"]["turn_id"])
    assert turn.repair_codes
    assert turn.references
    log_seal()
    assert "failed" not in verify(reviewer, turn)


def test_texts_that_are_not_the_recorded_ones_are_told_of(reviewer: Member, owner: Member, asked: Turn) -> None:
    reveal = f"{AUDIT}turns/{asked.pk}/reveal"
    assert "These are the recorded texts" in reviewer.browser.post(reveal, {"reason": REASON}).content.decode()
    event = Event.objects.get(uid=asked.event_uid)
    facts = json.loads(bytes(event.body))
    facts["facts"]["question"]["hmac"] = "0" * 64
    tamper("UPDATE audit_event SET body = %s WHERE id = %s", json.dumps(facts).encode(), event.pk)
    assert "These are not the recorded texts" in reviewer.browser.post(reveal, {"reason": REASON}).content.decode()


# Checkpoints


def test_the_checkpoints_are_there_the_newest_first(reviewer: Member, owner: Member, sealed: Turn) -> None:
    ask(owner)
    log_seal()
    sizes = list(Checkpoint.objects.order_by("-size").values_list("size", flat=True))
    assert len(sizes) == 2
    page = page_of(reviewer, f"{AUDIT}checkpoints/")
    places = [page.index(f'id="checkpoint-{size}"') for size in sizes]
    assert places == sorted(places)
    assert reviewer.get(f"{API}checkpoints/latest").json()["size"] == sizes[0]


def test_before_the_first_checkpoint(reviewer: Member) -> None:
    assert "Nothing has been sealed yet" in page_of(reviewer, f"{AUDIT}checkpoints/")
    problem_of(reviewer.get(f"{API}checkpoints/latest"), 404, "no_checkpoint")


def test_an_event_shows_its_place(reviewer: Member, sealed: Turn) -> None:
    event = Event.objects.get(uid=sealed.event_uid)
    index = Leaf.objects.get(event=event).index
    assert f"leaf {index}" in page_of(reviewer, f"{AUDIT}events/{event.uid}/")


def test_an_event_that_waits_for_its_place(reviewer: Member, asked: Turn) -> None:
    assert Tile.objects.count() == 0
    assert "none yet" in page_of(reviewer, f"{AUDIT}events/{asked.event_uid}/")
