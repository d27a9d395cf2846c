import uuid
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
from chat.api.serializers import CANONICAL_UUID
from onesource.errors import BadInput, Forbidden, NotFound
from review.api.openapi import CONFLICT_RESPONSES, GONE_RESPONSES, filter_parameters
from review.api.serializers import (
    CheckpointSerializer,
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
from review.forms import FORMATS, ZIP_ONLY, TurnSearchForm
from review.permissions import EXPORT, REVEAL, Reviews
from review.selectors import proof_of, turn_for, turns_search
from review.services import content_reveal, turns_export

SOURCE = "api"


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
        filters = _filters(request, "cursor")
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
    # Not HEAD, which Django would answer by a GET: with a record of an export that nobody got.
    http_method_names = ["get", "options"]

    @extend_schema(
        operation_id="audit_export",
        parameters=[
            *filter_parameters(),
            OpenApiParameter("reason", str, required=True, description="Why: 10 to 500 characters. On record."),
            OpenApiParameter("format", str, enum=list(FORMATS), description="csv without."),
            OpenApiParameter(
                "content", str, enum=["yes", "no"], description="Texts as well, into a ZIP; for those who may reveal."
            ),
        ],
        responses={
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/zip"): OpenApiTypes.BINARY,
            **PROBLEM_RESPONSES,
            **CONFLICT_RESPONSES,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        format_ = _one_of(request, "format", tuple(FORMATS))
        with_content = _one_of(request, "content", ("no", "yes")) == "yes"
        if with_content and format_ != "zip":
            raise BadInput(ZIP_ONLY, code="bad_format", errors={"content": [ZIP_ONLY]})
        if with_content and not request.user.has_perm(REVEAL):
            raise Forbidden("To export texts you need the permission to reveal them.")
        pieces = turns_export(
            filters=_filters(request, "reason", "format", "content"),
            format_=format_,
            reason=request.query_params.get("reason", ""),
            actor_ref=subject_ref_of(request.user),
            source=SOURCE,
            with_content=with_content,
        )
        return download(pieces, format_)


def _one_of(request: Request, name: str, choices: tuple[str, ...]) -> str:
    """The first of the choices without. Raises BadInput."""
    given = request.query_params.get(name, choices[0])
    if given not in choices:
        expected = f"Expected one of {', '.join(choices)}."
        raise BadInput(expected, code=f"bad_{name}", errors={name: [expected]})
    return given


def _filters(request: Request, *others: str) -> TurnFilters:
    """Raises BadInput, for a name that is no filter as well: leaving it out would find more than was meant."""
    form = TurnSearchForm(request.query_params)
    known = [*form.names(), *others]
    errors = {
        name[:80]: [f"Unknown. Known are {', '.join(known)}." if name not in known else "Give it once."]
        for name, values in request.query_params.lists()
        if name not in known or len(values) > 1
    }
    if errors:
        raise BadInput("Correct the filters named in errors.", code="bad_filter", errors=errors)
    form.check()
    return form.filters()


def _canonical(text: str) -> uuid.UUID:
    if not CANONICAL_UUID.fullmatch(text):
        raise NotFound("There is no turn of this id on record.", code="turn_not_found")
    return uuid.UUID(text)
