"""The sealer: every event gets one place, in one piece, also out of order and with two sealers at once."""

import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit import actions, notes, sealing
from audit.merkle import leaf_hash, root, verify_consistency, verify_inclusion
from audit.models import Checkpoint, Event, Leaf, SigningKey, Tile
from audit.proofs import NotSealedYet, consistency_for, proof_for
from audit.publishing import LogForked, checkpoints_publish
from audit.sealing import Sealer, log_seal, missed_floor, unsealed
from audit.services import event_record
from audit.signing import signer, verifiers
from tests.services.webhook import Webhook
from tests.tampering import tamper


def record(count=1, stream="auth"):
    return [event_record(kind=actions.LOGIN_SUCCEEDED, stream=stream, actor_ref="", facts={}) for _ in range(count)]


def assert_whole():
    """Leaves are numbered from 0 without a gap, one each event; the newest checkpoint is that of their tree."""
    leaves = list(Leaf.objects.order_by("index").select_related("event"))
    assert [leaf.index for leaf in leaves] == list(range(Event.objects.count()))
    assert len({leaf.event_id for leaf in leaves}) == len(leaves)
    assert all(bytes(leaf.hash) == leaf_hash(bytes(leaf.event.body)) for leaf in leaves)
    newest = Checkpoint.objects.order_by("-size").first()
    assert newest.size == len(leaves)
    assert bytes(newest.root) == root([bytes(leaf.hash) for leaf in leaves])
    return newest


def test_events_get_their_places_and_a_signed_checkpoint(db):
    record(3)
    # The first use of the key is an event of its own.
    assert log_seal() == Event.objects.count() >= 4
    newest = assert_whole()
    text, names = notes.note_open(newest.note, verifiers())
    assert names == [signer().name]
    assert notes.Checkpoint.parse(text) == notes.Checkpoint("onesource/audit", newest.size, bytes(newest.root))


def test_without_new_events_there_is_no_new_checkpoint(db):
    record()
    log_seal()
    assert log_seal() == 0
    assert Checkpoint.objects.count() == 1


@pytest.mark.parametrize("batch", [1, 7, 255, 256, 257])
def test_batches_of_any_size_make_the_same_log(db, monkeypatch, batch):
    record(300)
    monkeypatch.setattr(sealing, "BATCH_EVENTS", batch)
    log_seal()
    assert_whole()
    assert Tile.objects.count() == Event.objects.count() // 256


def test_an_event_with_a_lower_id_that_is_committed_later_gets_the_next_place(db):
    first, second = record(2)
    late = Event(**{field.attname: getattr(first, field.attname) for field in Event._meta.concrete_fields})
    late.pk, late.uid, late.stream_seq = -5, "0" * 32, 99
    log_seal()
    late.save(force_insert=True)
    log_seal()
    assert Leaf.objects.get(event_id=-5).index == Leaf.objects.count() - 1
    assert Leaf.objects.get(event=second).index < Leaf.objects.get(event_id=-5).index


def test_what_was_missed_below_the_settled_mark_is_swept_up(db, monkeypatch):
    monkeypatch.setattr(sealing, "SETTLED_AFTER", timedelta(seconds=-60))
    record(3)
    log_seal()
    late = Event.objects.order_by("id").first()
    late.pk, late.uid, late.stream_seq = -5, "0" * 32, 99
    late.save(force_insert=True)
    assert log_seal() == 0
    assert missed_floor() == -6
    Sealer()()
    assert missed_floor() is None
    assert Leaf.objects.filter(event_id=-5).exists()


def test_the_job_seals_when_enough_wait_or_one_has_waited(db):
    log_seal()
    sealer = Sealer()
    record()
    sealer()
    assert unsealed().events == 1
    long_ago = timezone.now() - timedelta(seconds=11)
    event_record(kind=actions.LOGIN_SUCCEEDED, stream="auth", actor_ref="", facts={}, at=long_ago)
    assert unsealed().events == 2
    sealer()
    assert unsealed() == sealing.Unsealed(0, None)
    record(sealing.DUE_EVENTS)
    sealer()
    assert unsealed().events == 0


def test_proofs_lead_to_the_signed_root(db):
    events = record(40)
    with pytest.raises(NotSealedYet):
        proof_for(events[0])
    log_seal()
    old = Checkpoint.objects.get()
    later = record(30)
    log_seal()
    for event in [*events, *later]:
        proof = proof_for(event)
        assert proof.leaf == leaf_hash(bytes(event.body))
        verify_inclusion(proof.leaf, proof.index, proof.size, proof.hashes, proof.root)
    hashes = consistency_for(old.size, proof.size)
    verify_consistency(old.size, proof.size, bytes(old.root), proof.root, hashes)


def test_another_signing_key_goes_on_record_and_both_are_believed(db, settings):
    record()
    log_seal()
    before = signer().vkey
    settings.AUDIT_SIGNING_KEY = "A" * 43 + "="
    settings.AUDIT_VERIFY_KEYS = [before]
    record()
    log_seal()
    assert SigningKey.objects.count() == 2
    announced = Event.objects.filter(kind=actions.SIGNING_KEY_USED).order_by("-id").first()
    assert before in bytes(announced.body).decode()
    for checkpoint in Checkpoint.objects.all():
        notes.note_open(checkpoint.note, verifiers())


@pytest.mark.skipif("sqlite" in connection.vendor, reason="one writer at a time is SQLite's own rule")
def test_a_second_sealer_keeps_out(transactional_db):
    record()
    with transaction.atomic():
        sealing._lock()
        outcome = []
        thread = threading.Thread(target=lambda: outcome.append(_seal_in_thread()))
        thread.start()
        thread.join(20)
    assert outcome == ["elsewhere"]
    log_seal()
    assert_whole()


def _seal_in_thread():
    try:
        log_seal()
    except sealing.SealingElsewhere:
        return "elsewhere"
    finally:
        connection.close()
    return "sealed"


def test_sealers_and_writers_at_once_leave_one_log(transactional_db):
    stop = threading.Event()
    failures = []

    def write(number):
        try:
            while not stop.is_set():
                record(1, stream=f"stream{number}")
        except Exception as error:  # noqa: BLE001  (shown by the test)
            failures.append(error)
        finally:
            connection.close()

    def seal():
        while not stop.is_set():
            try:
                _seal_in_thread()
            except Exception as error:  # noqa: BLE001  (shown by the test)
                failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    threads += [threading.Thread(target=seal) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    log_seal()
    assert_whole()
    roots = [bytes(leaf) for leaf in Leaf.objects.order_by("index").values_list("hash", flat=True)]
    for checkpoint in Checkpoint.objects.all():
        assert bytes(checkpoint.root) == root(roots[: checkpoint.size])


# Outside the database.


@pytest.fixture
def directory(settings, tmp_path):
    settings.AUDIT_CHECKPOINT_DIR = str(tmp_path)
    return tmp_path


def test_checkpoints_are_published_to_the_directory(db, directory):
    record()
    log_seal()
    checkpoints_publish()
    newest = Checkpoint.objects.get()
    assert (directory / "latest.txt").read_text() == newest.note
    assert (directory / f"{newest.at:%Y-%m-%d}" / f"{newest.size:012}.txt").read_text() == newest.note
    assert not [path for path in directory.rglob("*") if path.name.startswith(".")]


def roll_back(size):
    """The log as it was, as a restored backup would have it."""
    tamper('DELETE FROM audit_event WHERE id IN (SELECT event_id FROM audit_leaf WHERE "index" >= %s)', size)
    tamper('DELETE FROM audit_leaf WHERE "index" >= %s', size)
    tamper("DELETE FROM audit_checkpoint WHERE size > %s", size)


def test_a_log_that_lost_what_was_published_is_not_sealed_on(db, directory):
    record(5)
    log_seal()
    old = Checkpoint.objects.get()
    record(5)
    log_seal()
    checkpoints_publish()
    published = (directory / "latest.txt").read_text()
    roll_back(old.size)
    record(2)
    with pytest.raises(LogForked, match="has only"):
        log_seal()
    with pytest.raises(LogForked):
        checkpoints_publish()
    assert list(Checkpoint.objects.all()) == [old]
    assert (directory / "latest.txt").read_text() == published


def test_another_history_of_the_same_length_is_not_sealed_on(db, directory, settings):
    log_seal()
    old = Checkpoint.objects.get()
    record(5)
    log_seal()
    checkpoints_publish()
    roll_back(old.size)
    settings.AUDIT_CHECKPOINT_DIR = ""
    record(5)
    log_seal()
    settings.AUDIT_CHECKPOINT_DIR = str(directory)
    record()
    with pytest.raises(LogForked, match="another root"):
        log_seal()
    # A new log under another name goes on from there.
    settings.AUDIT_LOG_ORIGIN = "onesource/audit/2"
    assert log_seal() == 2
    checkpoints_publish()
    assert (directory / "latest.txt").read_text() == Checkpoint.objects.order_by("-size")[0].note


@pytest.mark.parametrize("harm", ["removed", "spoilt", "older"])
def test_without_a_good_latest_file_the_dated_ones_tell(db, directory, harm):
    log_seal()
    checkpoints_publish()
    old, older = Checkpoint.objects.get(), (directory / "latest.txt").read_text()
    record(5)
    log_seal()
    checkpoints_publish()
    newest = Checkpoint.objects.order_by("-size").first()
    dated = directory / f"{newest.at:%Y-%m-%d}" / f"{newest.size:012}.txt"
    published = dated.read_text()
    roll_back(old.size)
    if harm == "removed":
        (directory / "latest.txt").unlink()
    else:
        (directory / "latest.txt").write_text(older if harm == "older" else "x")
    record(5)
    with pytest.raises(LogForked):
        log_seal()
    with suppress(LogForked):
        checkpoints_publish()
    assert dated.read_text() == published


def test_a_dated_file_is_never_replaced(db, directory):
    record()
    log_seal()
    newest = Checkpoint.objects.get()
    dated = directory / f"{newest.at:%Y-%m-%d}" / f"{newest.size:012}.txt"
    dated.parent.mkdir()
    dated.write_text("somebody was here")
    checkpoints_publish()
    assert dated.read_text() == "somebody was here"
    assert (directory / "latest.txt").read_text() == newest.note


def test_a_directory_that_is_not_mounted_is_not_made(db, settings, tmp_path):
    settings.AUDIT_CHECKPOINT_DIR = str(tmp_path / "share" / "checkpoints")
    record()
    log_seal()
    checkpoints_publish()
    assert not (tmp_path / "share").exists()


def test_an_id_far_above_hides_nothing_below_it(db, monkeypatch):
    monkeypatch.setattr(sealing, "SETTLED_AFTER", timedelta(seconds=-60))
    (event,) = record()
    event.pk, event.uid, event.stream_seq = 9 * 10**18, "0" * 32, 99
    event.save(force_insert=True)
    log_seal()
    assert missed_floor() is None
    if connection.vendor == "postgresql":
        record()
        assert unsealed().events == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"nonsense\n", b"x" * 20_000])
def test_a_spoilt_file_in_the_directory_does_not_stop_the_sealing(db, directory, content):
    (directory / "latest.txt").write_bytes(content)
    record()
    assert log_seal() > 0
    checkpoints_publish()
    assert (directory / "latest.txt").read_text() == Checkpoint.objects.get().note


def test_a_directory_that_cannot_be_written_costs_nothing_but_a_metric(db, settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings.AUDIT_CHECKPOINT_DIR = str(tmp_path / "file")
    record()
    assert log_seal() > 0
    checkpoints_publish()
    assert Checkpoint.objects.count() == 1


def test_the_webhook_gets_each_newest_checkpoint_once_and_again_after_a_failure(db, settings):
    with Webhook() as hook:
        settings.AUDIT_CHECKPOINT_WEBHOOK = hook.url
        record()
        log_seal()
        hook.status = 500
        checkpoints_publish()
        hook.status = 204
        checkpoints_publish()
        checkpoints_publish()
    note = Checkpoint.objects.get().note
    assert hook.bodies == [note, note]
