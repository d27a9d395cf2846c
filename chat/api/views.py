import re
import uuid
from datetime import timedelta
from functools import partial
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.services import subject_ref_of
from chat.api.admission import ADMISSION, Place
from chat.api.openapi import ANSWER_RESPONSES, PROBLEM_RESPONSES
from chat.api.pagination import sessions_page
from chat.api.serializers import (
    ConversationSerializer,
    QuestionSerializer,
    SessionPageSerializer,
    SessionSerializer,
    id_in_path,
)
from chat.api.streams import STREAM_RESPONSE, EventStreamRenderer, replay_stream, turn_stream
from chat.api.throttles import Allowance, RateLimited, turn_throttle
from chat.idempotency import Replay, answer_replay, claim_release, claim_settle, claim_take, fingerprint
from chat.pipeline.turn import Endpoint
from chat.selectors import conversation_of, session_for, sessions_of
from chat.services import session_delete, turn_answer, turn_prepare
from flags import snapshot
from flags.snapshot import Snapshot, Subject
from onesource.errors import BadInput, NotFound

IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def subject_for(user: Any, flags: Snapshot) -> Subject:
    """The caller as flags and records know them; groups are read only when some flag asks for one."""
    groups = frozenset(user.groups.values_list("pk", flat=True)) if flags.rules.names_groups else frozenset()
    return Subject(subject_ref_of(user), user.pk, groups)


class TurnView(APIView):
    """Ask a question and get a valid, recorded answer."""

    endpoint: Endpoint = "chat"
    allowance: Allowance | None = None
    renderer_classes = [JSONRenderer, EventStreamRenderer]

    @extend_schema(
        request=QuestionSerializer,
        responses={**ANSWER_RESPONSES, **STREAM_RESPONSE},
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="Kept 24 hours.")],
    )
    def post(self, request: Request) -> HttpResponseBase:
        question = QuestionSerializer(data=request.data)
        question.is_valid(raise_exception=True)
        key = _idempotency_key(request)
        flags = snapshot.current()
        subject = subject_for(request.user, flags)
        self.allowance = turn_throttle(subject, flags)
        place = ADMISSION.take()
        streaming = False
        try:
            response = self._respond(request, question.validated_data, subject, flags, key, place)
            streaming = response.streaming
        finally:
            if not streaming:
                place.release()
        return response

    def _respond(
        self, request: Request, asked: dict[str, Any], subject: Subject, flags: Snapshot, key: str | None, place: Place
    ) -> HttpResponseBase:
        claim = None
        streamed = asked.get("stream") or isinstance(request.accepted_renderer, EventStreamRenderer)
        if key is not None:
            budget = timedelta(milliseconds=flags.number("LLM_TIMEOUT_MS"))
            claim = claim_take(
                subject_ref=subject.ref, key=key, fingerprint=fingerprint(request.path, request.data), budget=budget
            )
        if isinstance(claim, Replay):
            if streamed:
                place.release()
                return replay_stream(claim)
            return Response(answer_replay(claim), headers={"Idempotent-Replayed": "true"})
        answered = False
        try:
            prepared = turn_prepare(
                subject=subject,
                question=asked["question"],
                session_id=asked.get("session_id"),
                endpoint=self.endpoint,
                flags=flags,
            )
            response: HttpResponseBase
            if streamed:
                request_id = getattr(request, "request_id", "")
                response = turn_stream(prepared, claim=claim, place=place, request_id=request_id)
            else:
                response = Response(
                    turn_answer(prepared, settle=partial(claim_settle, claim, prepared.turn.turn_id) if claim else None)
                )
            answered = True
        finally:
            if claim and not answered:
                claim_release(claim)
        return response

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, RateLimited):
            self.allowance = exc.allowance
        return super().handle_exception(exc)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        finalized = super().finalize_response(request, response, *args, **kwargs)
        if self.allowance:
            for name, value in self.allowance.headers().items():
                finalized[name] = value
        return finalized


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
        raise BadInput("Idempotency-Key must be 1 to 255 visible ASCII characters.", code="bad_idempotency_key")
    return key


class SessionListView(APIView):
    """The caller's conversations, the latest first."""

    @extend_schema(
        operation_id="chat_sessions_list",
        responses={200: SessionPageSerializer, **PROBLEM_RESPONSES},
        parameters=[OpenApiParameter("cursor", str, description="From `next` of the page before.")],
    )
    def get(self, request: Request) -> Response:
        page, following = sessions_page(sessions_of(subject_ref_of(request.user)), request)
        return Response({"next": following, "results": SessionSerializer(page, many=True).data})


class SessionView(APIView):
    """One conversation: its retained turns; deleting erases the texts and keeps the evidence."""

    @extend_schema(responses={200: ConversationSerializer, **PROBLEM_RESPONSES})
    def get(self, request: Request, session_id: str) -> Response:
        session = session_for(subject_ref_of(request.user), _canonical(session_id), required=True)
        assert session is not None
        summary = SessionSerializer(session).data
        return Response({**summary, "conversation": list(conversation_of(session))})

    @extend_schema(responses={204: None, **PROBLEM_RESPONSES})
    def delete(self, request: Request, session_id: str) -> Response:
        subject = Subject(subject_ref_of(request.user), request.user.pk)
        session_delete(subject=subject, session_id=_canonical(session_id))
        return Response(status=204)


def _canonical(text: str) -> uuid.UUID:
    return id_in_path(text, NotFound("This session does not exist or is not yours.", code="session_not_found"))


class FlagsView(APIView):
    """The caller's flags and settings as they are in force for them."""

    @extend_schema(responses={200: dict[str, Any], **PROBLEM_RESPONSES})
    def get(self, request: Request) -> Response:
        flags = snapshot.current()
        return Response(flags.evaluate(subject_for(request.user, flags)))
