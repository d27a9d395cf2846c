import re
import unicodedata
import uuid
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from onesource.errors import NotFound

QUESTION_LIMIT = 8000
CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def id_in_path(text: str, missing: NotFound) -> uuid.UUID:
    """Raises `missing` for what is no canonical id: nothing has such a one."""
    if not CANONICAL_UUID.fullmatch(text):
        raise missing
    return uuid.UUID(text)


KEPT_CONTROLS = frozenset("\n\t")


def text_clean(text: str) -> str:
    """Without control characters (but line breaks and tabs) and Unicode's noncharacters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        c for c in text if c in KEPT_CONTROLS or not (unicodedata.category(c) == "Cc" or _noncharacter(ord(c)))
    )


def _noncharacter(point: int) -> bool:
    return 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields it does not know, and takes null for an optional field as its absence."""

    def to_internal_value(self, data: Any) -> Any:
        unknown = sorted(set(data) - set(self.fields))
        if unknown:
            known = ", ".join(self.fields)
            raise serializers.ValidationError(
                {name[:80]: [f"Unknown field. Known ones: {known}."] for name in unknown[:10]}
            )
        given = {k: v for k, v in data.items() if v is not None or self.fields[k].required}
        return super().to_internal_value(given)


class StrictCharField(serializers.CharField):
    """Text as it is: DRF's own takes a number for a text."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Must be true or false.")
        return data


@extend_schema_field(OpenApiTypes.UUID)
class CanonicalUUIDField(serializers.Field[uuid.UUID, Any, str, Any]):
    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str) or not CANONICAL_UUID.fullmatch(data):
            raise serializers.ValidationError("Must be a lower-case hyphenated UUID.")
        return uuid.UUID(data)

    def to_representation(self, value: uuid.UUID) -> str:
        return str(value)


class QuestionSerializer(StrictSerializer):
    question = StrictCharField(trim_whitespace=False, allow_blank=True)
    session_id = CanonicalUUIDField(required=False)
    stream = StrictBooleanField(required=False)
    topics = serializers.ListField(child=StrictCharField(max_length=40), max_length=10, required=False)

    def validate_question(self, value: str) -> str:
        if "\x00" in value:
            raise serializers.ValidationError("Must not contain NUL characters.")
        if len(value) > QUESTION_LIMIT:
            raise serializers.ValidationError(f"Must have at most {QUESTION_LIMIT} characters; this has {len(value)}.")
        cleaned = text_clean(value).strip()
        if not cleaned:
            raise serializers.ValidationError("Must not be blank.")
        return cleaned


class StoppingSerializer(serializers.Serializer[Any]):
    turn_id = serializers.UUIDField()
    status = serializers.CharField()


class SessionSerializer(serializers.Serializer[Any]):
    session_id = serializers.UUIDField(source="id")
    turns = serializers.IntegerField(source="turn_count")
    created_at = serializers.DateTimeField()
    last_turn_at = serializers.DateTimeField()


class ConversationTurnSerializer(serializers.Serializer[Any]):
    turn = serializers.IntegerField()
    asked_at = serializers.DateTimeField()
    question = serializers.CharField()
    answer = serializers.DictField()


class ConversationSerializer(SessionSerializer):
    conversation = ConversationTurnSerializer(many=True)


class SessionPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    results = SessionSerializer(many=True)
