import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.proofs import checkpoint_latest
from audit.services import subject_ref_of
from chat.api.openapi import PROBLEM_RESPONSES
from chat.api.serializers import id_in_path
from onesource.errors import BadInput, Forbidden, NotFound
from review.api.openapi import CONFLICT_RESPONSES, GONE_RESPONSES, filter_parameters
from review.api.serializers import (
    CheckpointSerializer,
    ExportSerializer,
    ProofSerializer,
    ReasonSerializer,
    RevealedSerializer,
    ReviewedTurnSerializer,
    TurnEvidenceSerializer,
    TurnPageSerializer,
    turn_evidence,
)
from review.downloads import download
from review.filters import TurnFilters
from review.forms import ZIP_ONLY, TurnSearchForm
from review.permissions import EXPORT, REVEAL, Reviews
from review.selectors import proof_of, turn_for, turns_search
from review.services import content_reveal, turns_export

SOURCE = "api"
FILTERS_WRONG = "Correct the filters named in errors."


class ReviewView(APIView):
    """For compliance reviewers; `permissions` are those that it asks for besides seeing the trail."""

    permission_classes = [Reviews]
    permissions: tuple[str, ...] = ()

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        finalized.headers.setdefault("Cache-Control", "no-store")
        return finalized


class TurnListView(ReviewView):
    """Turns on record, the newest first, by any of the filters together; never their texts."""

    @extend_schema(
        operation_id="audit_turns_list",
        parameters=[*filter_parameters(), OpenApiParameter("cursor", str, description="From `next` of a page.")],
        responses={200: TurnPageSerializer, **PROBLEM_RESPONSES},
    )
    def get(self, request: Request) -> Response:
        filters = _asked(request, "cursor")
        page = turns_search(filters, request.query_params.get("cursor", ""))
        following = None
        if page.cursor:
            asked = {**request.query_params.dict(), "cursor": page.cursor}
            following = request.build_absolute_uri(f"{request.path}?{urlencode(asked)}")
        return Response({"next": following, "results": ReviewedTurnSerializer(page.rows, many=True).data})


class TurnView(ReviewView):
    """One turn: facts, what the guard did in plain sentences, what became of the content, and its timeline."""

    @extend_schema(operation_id="audit_turn", responses={200: TurnEvidenceSerializer, **PROBLEM_RESPONSES})
    def get(self, request: Request, turn_id: str) -> Response:
        return Response(turn_evidence(turn_for(_canonical(turn_id))))


class RevealView(ReviewView):
    """Question and answer of a turn. That you looked, and why, is on record before they are shown."""

    permissions = (REVEAL,)

    @extend_schema(
        operation_id="audit_turn_reveal",
        request=ReasonSerializer,
        responses={200: RevealedSerializer, **PROBLEM_RESPONSES, **GONE_RESPONSES},
    )
    def post(self, request: Request, turn_id: str) -> Response:
        given = ReasonSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        revealed = content_reveal(
            turn_id=_canonical(turn_id),
            reason=given.validated_data["reason"],
            actor_ref=subject_ref_of(request.user),
            source=SOURCE,
        )
        return Response(RevealedSerializer(revealed).data)


class ProofView(ReviewView):
    """That the event of a turn is in the log; 409 not_sealed_yet, with Retry-After, in its first seconds."""

    permissions = (EXPORT,)

    @extend_schema(
        operation_id="audit_turn_proof", responses={200: ProofSerializer, **PROBLEM_RESPONSES, **CONFLICT_RESPONSES}
    )
    def get(self, request: Request, turn_id: str) -> Response:
        return Response(ProofSerializer(proof_of(turn_for(_canonical(turn_id)))).data)


class CheckpointView(ReviewView):
    """The newest signed checkpoint of the log; 404 before the first."""

    @extend_schema(operation_id="audit_checkpoint_latest", responses={200: CheckpointSerializer, **PROBLEM_RESPONSES})
    def get(self, request: Request) -> Response:
        checkpoint = checkpoint_latest()
        if checkpoint is None:
            raise NotFound("Nothing has been sealed yet.", code="no_checkpoint")
        return Response(CheckpointSerializer(checkpoint).data)


class _FileRenderer(JSONRenderer):
    """For content negotiation; what it renders itself are the errors that come before a file."""

    charset = None


class CSVRenderer(_FileRenderer):
    media_type = "text/csv"
    format = "csv"


class ZIPRenderer(_FileRenderer):
    media_type = "application/zip"
    format = "zip"


class ExportView(ReviewView):
    """The turns that the filters find, at most 10,000, as a file. The export is on record before its first byte.

    A ZIP verifies offline with the script inside it; 409 not_sealed_yet while one of its events is not in the log.
    """

    permissions = (EXPORT,)
    renderer_classes = [CSVRenderer, ZIPRenderer, JSONRenderer]

    @extend_schema(
        operation_id="audit_export",
        request=ExportSerializer,
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/zip"): OpenApiTypes.BINARY,
            **PROBLEM_RESPONSES,
            **CONFLICT_RESPONSES,
        },
    )
    def post(self, request: Request) -> HttpResponseBase:
        if request.query_params:
            # Leaving them out would find more than was meant.
            expected = "Send all that you ask for in the body; filters under “filters”."
            names = {name[:80]: [expected] for name in request.query_params}
            raise BadInput(expected, code="bad_filter", errors=names)
        given = ExportSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        if asked["content"] and asked["format"] != "zip":
            raise BadInput(ZIP_ONLY, code="bad_format", errors={"content": [ZIP_ONLY]})
        if asked["content"] and not request.user.has_perm(REVEAL):
            raise Forbidden("To export texts you need the permission to reveal them.")
        pieces = turns_export(
            filters=_filters(asked["filters"]),
            format_=asked["format"],
            reason=asked["reason"],
            actor_ref=subject_ref_of(request.user),
            source=SOURCE,
            with_content=asked["content"],
        )
        return download(pieces, asked["format"])


def _asked(request: Request, *others: str) -> TurnFilters:
    """The filters in the address. Raises BadInput, for one that is given twice as well."""
    twice = {name[:80]: ["Give it once."] for name, values in request.query_params.lists() if len(values) > 1}
    if twice:
        raise BadInput(FILTERS_WRONG, code="bad_filter", errors=twice)
    return _filters(request.query_params.dict(), *others)


def _filters(given: Mapping[str, str], *others: str) -> TurnFilters:
    """Raises BadInput, for a name that is no filter as well: leaving it out would find more than was meant."""
    form = TurnSearchForm(dict(given))
    known = [*form.names(), *others]
    errors = {name[:80]: [f"Unknown. Known are {', '.join(known)}."] for name in given if name not in known}
    if errors:
        raise BadInput(FILTERS_WRONG, code="bad_filter", errors=errors)
    form.check()
    return form.filters()


def _canonical(text: str) -> uuid.UUID:
    return id_in_path(text, NotFound("There is no turn of this id on record.", code="turn_not_found"))
