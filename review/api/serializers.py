from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from audit.selectors import facts_of
from chat.api.serializers import StrictBooleanField, StrictCharField, StrictSerializer
from chat.models import Turn
from review.api.openapi import filters_schema
from review.forms import FORMATS
from review.record import repairs
from review.selectors import content_state, event_of
from review.timeline import timeline


class ReferenceSerializer(serializers.Serializer[Any]):
    text = serializers.CharField(help_text="As written in the answer.")
    known = serializers.BooleanField(help_text="Whether the knowledge base held it when the turn was recorded.")


class ReviewedTurnSerializer(serializers.Serializer[Any]):
    """The facts of a turn; never its texts, and people by their pseudonym alone."""

    turn_id = serializers.UUIDField(source="pk")
    session_id = serializers.UUIDField()
    turn = serializers.IntegerField(source="seq", help_text="Its number in the session.")
    user = serializers.CharField(source="session.subject_ref", help_text="Pseudonym.")
    recorded_at = serializers.DateTimeField(source="created_at")
    endpoint = serializers.CharField()
    pipeline = serializers.CharField()
    track = serializers.CharField(help_text="Release track: stable or canary.")
    outcome = serializers.CharField()
    provider = serializers.CharField()
    model = serializers.CharField()
    degraded = serializers.BooleanField()
    repaired = serializers.BooleanField()
    repair_codes = serializers.ListField(child=serializers.CharField())
    references = ReferenceSerializer(many=True)
    arms = serializers.DictField(
        child=serializers.BooleanField(), allow_null=True, help_text="The cohort flags for the one who asked."
    )
    question_chars = serializers.IntegerField()
    answer_chars = serializers.IntegerField()
    prompt_tokens = serializers.IntegerField()
    completion_tokens = serializers.IntegerField()
    total_us = serializers.IntegerField(help_text="Microseconds.")
    provider_us = serializers.IntegerField(help_text="Microseconds.")
    first_token_us = serializers.IntegerField(allow_null=True, help_text="Microseconds; of a streamed turn.")
    event = serializers.UUIDField(source="event_uid", help_text="The event that holds the facts.")


class TurnPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True, help_text="The following page.")
    results = ReviewedTurnSerializer(many=True)


class RepairSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    kind = serializers.CharField()
    sentence = serializers.CharField()
    place = serializers.CharField()
    times = serializers.IntegerField()


class MomentSerializer(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    what = serializers.CharField()
    detail = serializers.CharField()
    event = serializers.UUIDField(allow_null=True)


class ContentStateSerializer(serializers.Serializer[Any]):
    kind = serializers.CharField(help_text="held, legal_hold, erased, purged or missing.")
    on = serializers.DateTimeField(allow_null=True)
    sentence = serializers.CharField()


class TurnEvidenceSerializer(ReviewedTurnSerializer):
    content = ContentStateSerializer()
    repairs = RepairSerializer(many=True)
    timeline = MomentSerializer(many=True)
    timeline_complete = serializers.BooleanField(help_text="False when so much came later that the latest is left out.")
    facts = serializers.DictField(help_text="The facts in the body of the event, as recorded.")


def turn_evidence(turn: Turn) -> dict[str, Any]:
    """A turn with all that its page shows."""
    event = event_of(turn)
    facts = facts_of(event) if event else {}
    state = content_state(turn)
    found = timeline(turn, state)
    return {
        **ReviewedTurnSerializer(turn).data,
        "content": ContentStateSerializer(state).data,
        "repairs": RepairSerializer(repairs(facts), many=True).data,
        "timeline": MomentSerializer(found.moments, many=True).data,
        "timeline_complete": found.complete,
        "facts": facts,
    }


class ReasonSerializer(StrictSerializer):
    reason = StrictCharField(help_text="Why: 10 to 500 characters that are not blank. It stays on record.")


@extend_schema_field(filters_schema())
class FiltersField(serializers.DictField):
    """Texts by name; the search's form says what they mean."""

    child = StrictCharField(allow_blank=True, trim_whitespace=False)


class ExportSerializer(StrictSerializer):
    reason = StrictCharField(
        allow_blank=True, help_text="Why: 10 to 500 characters that are not blank. It stays on record."
    )
    format = serializers.ChoiceField(
        choices=list(FORMATS),
        default="csv",
        error_messages={"invalid_choice": f"Expected one of {', '.join(FORMATS)}."},
    )
    content = StrictBooleanField(
        default=False, help_text="Questions and answers as well, into a ZIP; for those who may reveal."
    )
    filters = FiltersField(default=dict)


class RevealedSerializer(serializers.Serializer[Any]):
    turn_id = serializers.UUIDField(source="turn.pk")
    question = serializers.CharField()
    answer = serializers.DictField(help_text="As it was given; see POST /chat.")
    raw = serializers.CharField(allow_null=True, help_text="The provider's reply, where the guard changed it.")
    event = serializers.UUIDField(help_text="The record of this look.")
    authentic = serializers.BooleanField(help_text="Whether the trail is committed to these very texts.")


@extend_schema_field(OpenApiTypes.STR)
class HexField(serializers.Field[bytes, Any, str, Any]):
    def to_representation(self, value: bytes) -> str:
        return bytes(value).hex()


class ProofSerializer(serializers.Serializer[Any]):
    """Hashes in hexadecimal."""

    index = serializers.IntegerField(help_text="Of the leaf, from 0.")
    size = serializers.IntegerField(help_text="Leaves in the log.")
    leaf = HexField(help_text="RFC 6962 hash of the event's body.")
    hashes = serializers.ListField(child=HexField(), help_text="Inclusion proof (RFC 6962, 2.1.1), leaf to root.")
    root = HexField()  # type: ignore[assignment]
    note = serializers.CharField(help_text="Signed checkpoint (C2SP tlog-checkpoint).")


class CheckpointSerializer(serializers.Serializer[Any]):
    size = serializers.IntegerField(help_text="Leaves in the log.")
    root = HexField(help_text="In hexadecimal.")  # type: ignore[assignment]
    at = serializers.DateTimeField()
    note = serializers.CharField(help_text="The whole signed text (C2SP tlog-checkpoint).")
