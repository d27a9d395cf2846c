"""OpenFeature Remote Evaluation Protocol 0.3 (openfeature.dev): flags read by any OpenFeature client.

The official Python provider is stricter than the specification: without `variant`, `errorDetails` or with a reason of
its own it gives the default. So both are always there.
"""

import hashlib
import json
from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.models import SubjectAlias
from audit.services import subject_ref_of
from flags import snapshot
from flags.registry import REGISTRY, Value
from flags.snapshot import Decision, Snapshot, Subject
from onesource.errors import BadInput, NotFound, ProblemError

TARGETING_KEY_LIMIT = 200
REASONS: dict[Decision, str] = {
    "pin": "STATIC",
    "row": "STATIC",
    "default": "STATIC",
    "nobody": "STATIC",
    "listed": "TARGETING_MATCH",
    "share": "SPLIT",
}
ERROR_CODES = {"flag_not_found": "FLAG_NOT_FOUND", "malformed_json": "PARSE_ERROR", "bad_context": "INVALID_CONTEXT"}
RESPONSES: dict[int, Any] = {200: dict[str, Any], 400: dict[str, Any], 401: dict[str, Any], 403: dict[str, Any]}


class OfrepView(APIView):
    key = ""

    def problem_body(self, problem: ProblemError, request_id: str) -> dict[str, Any]:
        """Errors in the protocol's shape instead of RFC 9457's."""
        if problem.status not in (400, 404, 415):
            return {"errorDetails": problem.detail}
        key = {"key": self.key} if self.key else {}
        return {**key, "errorCode": ERROR_CODES.get(problem.code, "GENERAL"), "errorDetails": problem.detail}


class FlagEvaluationView(OfrepView):
    """One flag, evaluated for the context's targetingKey; without one, for the caller."""

    @extend_schema(operation_id="ofrep_flag", request=dict[str, Any], responses={**RESPONSES, 404: dict[str, Any]})
    def post(self, request: Request, key: str) -> Response:
        self.key = key[:200]
        subject = _subject(request)
        if key not in REGISTRY:
            raise NotFound(f"There is no flag {self.key}.", code="flag_not_found")
        return Response(_evaluated(snapshot.current(), key, subject))


class BulkEvaluationView(OfrepView):
    """All flags at once. The ETag stands for context and flags: with If-None-Match, 304 while neither has changed."""

    @extend_schema(
        operation_id="ofrep_flags",
        request=dict[str, Any],
        responses={**RESPONSES, 304: None},
        parameters=[OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER)],
    )
    def post(self, request: Request) -> Response:
        subject = _subject(request)
        picture = snapshot.current()
        flags = [_evaluated(picture, key, subject) for key in REGISTRY]
        etag = _etag(flags, _body(request))
        headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
        if etag in _tags(request.headers.get("If-None-Match", "")):
            return Response(status=304, headers=headers)
        return Response({"flags": flags, "metadata": {"epoch": picture.epoch}}, headers=headers)


def _body(request: Request) -> dict[str, Any]:
    """The parser lets objects pass only; an empty body is an empty one."""
    return request.data if isinstance(request.data, dict) else {}


def _subject(request: Request) -> Subject:
    """Raises BadInput for a context that is none."""
    context = _body(request).get("context", {})
    if not isinstance(context, dict):
        raise BadInput("context must be an object.", code="bad_context")
    own = subject_ref_of(request.user)
    key = context.get("targetingKey", own)
    if not isinstance(key, str) or not 0 < len(key) <= TARGETING_KEY_LIMIT:
        raise BadInput(f"targetingKey must be a text of 1 to {TARGETING_KEY_LIMIT} characters.", code="bad_context")
    if key == own:
        return _person(own, request.user)
    # Whether somebody else is listed by name is for those who may see the lists.
    alias = SubjectAlias.objects.filter(subject_ref=key).select_related("user").first()
    if alias is not None and request.user.has_perm("flags.view_flag"):
        return _person(key, alias.user)
    return Subject(key)


def _person(ref: str, user: Any) -> Subject:
    return Subject(ref, user.pk, frozenset(user.groups.values_list("pk", flat=True)))


def _evaluated(picture: Snapshot, key: str, subject: Subject) -> dict[str, Any]:
    value = picture.value(key, subject)
    return {
        "key": key,
        "value": value,
        "reason": REASONS[picture.decided_by(key, subject)],
        "variant": _variant(value),
        "metadata": {"kind": REGISTRY[key].kind, "pinned": key in picture.pins},
    }


def _variant(value: Value) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else "value"


def _etag(flags: list[dict[str, Any]], body: Any) -> str:
    told = json.dumps([flags, body.get("context")], sort_keys=True, ensure_ascii=False)
    return f'"{hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]}"'


def _tags(header: str) -> list[str]:
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]
