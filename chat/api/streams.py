import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.services import subject_ref_of
from chat.api.admission import ADMISSION, PRODUCERS, RESUMED, Busy, Place
from chat.api.openapi import PROBLEM_RESPONSES
from chat.api.serializers import StoppingSerializer, id_in_path
from chat.idempotency import Claim, Replay, answer_replay, claim_release, claim_settle
from chat.models import Stream
from chat.services import Prepared
from chat.streaming.buffer import Emitted
from chat.streaming.producer import Callbacks
from chat.streaming.services import stream_of, stream_start, stream_stop
from chat.streaming.sse import Tail, encode
from onesource.errors import BadInput, NotFound

EVENT_STREAM = "text/event-stream"
# Above the number of any stream's own events, of which a client may have seen some.
RECORDED_N = 1_000_000
EVENT_ID = re.compile(r"[0-9]{1,9}")
STREAM_RESPONSE: dict[Any, Any] = {(200, EVENT_STREAM): OpenApiTypes.STR}


class EventStreamRenderer(JSONRenderer):
    """For content negotiation; what it renders itself are the errors that come before a stream."""

    media_type = EVENT_STREAM
    format = "event-stream"
    charset = None


def event_stream(chunks: Any, headers: Mapping[str, str] | None = None) -> StreamingHttpResponse:
    response = StreamingHttpResponse(chunks, content_type=EVENT_STREAM, headers=dict(headers or {}))
    response["Cache-Control"] = "no-store, no-transform"
    # nginx would hold the events back until its buffer is full.
    response["X-Accel-Buffering"] = "no"
    return response


def turn_stream(prepared: Prepared, *, claim: Claim | None, place: Place, request_id: str) -> StreamingHttpResponse:
    """The turn's events as they come; `place` is released when the response ends."""
    turn_id = prepared.turn.turn_id
    producing = PRODUCERS.take()

    def settle() -> None:
        if claim:
            claim_settle(claim, turn_id)

    def failed() -> None:
        if claim:
            claim_release(claim)

    callbacks = Callbacks(settle=settle, failed=failed, done=producing.release)
    stream_start(prepared, callbacks=callbacks, request_id=request_id)
    return event_stream(Tail(turn_id, after=0, request_id=request_id, release=place.release))


def replay_stream(replay: Replay) -> StreamingHttpResponse:
    """A recorded answer in the form of a stream."""
    answer = answer_replay(replay)
    return event_stream(answer_events(answer, after=0, last_n=2), {"Idempotent-Replayed": "true"})


def answer_events(answer: dict[str, Any], *, after: int, last_n: int) -> Iterator[bytes]:
    """Of a turn whose stream is not at hand: its beginning and its end."""
    meta = answer["meta"]
    if after < 1:
        yield encode(Emitted(1, "started", {"turn_id": meta["turn_id"], "session_id": meta["session_id"]}))
    yield encode(Emitted(last_n, "answer", answer))


class StreamView(APIView):
    """Resume a stream after the event named by Last-Event-ID, on whichever worker; 204 when there is nothing more."""

    renderer_classes = [EventStreamRenderer, JSONRenderer]
    # Not HEAD, which Django would answer by a GET: of a running stream, with all that it waits for.
    http_method_names = ["get", "options"]

    @extend_schema(
        operation_id="chat_turn_stream",
        parameters=[
            OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER, description="From the start without.")
        ],
        responses={**STREAM_RESPONSE, 204: None, **PROBLEM_RESPONSES},
    )
    def get(self, request: Request, turn_id: str) -> HttpResponseBase:
        after = _last_event_id(request)
        turn = _canonical(turn_id)
        stream = stream_of(subject_ref_of(request.user), turn)
        over = stream is None or stream.status != Stream.Status.RUNNING
        if over and after >= ((stream.last_n or 1) if stream else RECORDED_N):
            # To an EventSource this says: do not come again.
            return HttpResponse(status=204)
        if stream is None:
            return event_stream(answer_events(answer_replay(Replay(turn)), after=after, last_n=RECORDED_N))
        leave = RESUMED.take(turn)
        try:
            place = ADMISSION.take()
        except Busy:
            leave()
            raise

        def release() -> None:
            place.release()
            leave()

        request_id = getattr(request, "request_id", "")
        return event_stream(Tail(turn, after=after, request_id=request_id, release=release))


class StopView(APIView):
    """End a running stream at once; it closes with the answer as far as it came, which is recorded as aborted."""

    @extend_schema(
        operation_id="chat_turn_stop", request=None, responses={202: StoppingSerializer, **PROBLEM_RESPONSES}
    )
    def post(self, request: Request, turn_id: str) -> Response:
        turn = _canonical(turn_id)
        stream_stop(subject_ref=subject_ref_of(request.user), turn_id=turn)
        return Response({"turn_id": str(turn), "status": "stopping"}, status=202)


def _last_event_id(request: Request) -> int:
    given = request.headers.get("Last-Event-ID", "0")
    if not EVENT_ID.fullmatch(given):
        raise BadInput("Last-Event-ID must be the id of an event of this stream.", code="bad_last_event_id")
    return int(given)


def _canonical(text: str) -> uuid.UUID:
    return id_in_path(text, NotFound("There is no such turn, or it is not yours.", code="turn_not_found"))
