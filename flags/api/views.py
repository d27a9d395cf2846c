from itertools import islice
from typing import Any, Literal

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from audit.services import subject_ref_of
from flags.guarded import Locked
from flags.permissions import may, permission_of
from flags.registry import BadValue, UnknownFlag, registered
from flags.services import ApprovalRequired, Pinned, flag_roll_out, flag_set
from flags.status import history, statuses
from onesource.errors import BadInput, Conflict, Forbidden, NotFound

HISTORY_LIMIT = 200


class MayHandleFlags(BasePermission):
    """Who may see a flag in the admin may read it here, who may change it there may change it here."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user.is_authenticated:
            return False
        verb: Literal["view", "change"] = "view" if request.method in ("GET", "HEAD", "OPTIONS") else "change"
        key = view.kwargs["key"]
        if not may(request.user, verb, key):
            raise Forbidden(
                f"This needs the permission {permission_of(verb, key)}, which the group flag managers has. "
                "An administrator puts users into groups in /admin/."
            )
        return True


class FlagChangeSerializer(serializers.Serializer[Any]):
    """Either `value` (for everyone, or a setting's) or `rollout_percent` (of a cohort flag)."""

    value = serializers.JSONField(required=False)
    rollout_percent = serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=0, max_value=100, required=False
    )
    reason = serializers.CharField(required=False, allow_blank=True, max_length=500, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown = sorted(set(self.initial_data) - set(self.fields))
        if unknown:
            raise serializers.ValidationError({name[:80]: ["Unknown field."] for name in unknown[:10]})
        if ("value" in attrs) == ("rollout_percent" in attrs):
            raise serializers.ValidationError({"value": ["Give either value or rollout_percent."]})
        return attrs


class FlagStatusView(APIView):
    """A flag or setting as operators see it: what is in force and why, the last change, whether it is stale."""

    permission_classes = [MayHandleFlags]

    @extend_schema(operation_id="flag_read", responses={200: dict[str, Any]})
    def get(self, request: Request, key: str) -> Response:
        return Response(_status(key))

    @extend_schema(operation_id="flag_change", request=FlagChangeSerializer, responses={200: dict[str, Any]})
    def put(self, request: Request, key: str) -> Response:
        asked = FlagChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        change = {"actor_ref": subject_ref_of(request.user), "reason": given["reason"].strip(), "source": "api"}
        try:
            if "value" in given:
                flag_set(key=key, value=given["value"], **change)
            else:
                flag_roll_out(key=key, rollout_bp=int(given["rollout_percent"] * 100), **change)
        except UnknownFlag:
            raise _unknown(key) from None
        except Pinned as error:
            raise Conflict(str(error), code="flag_pinned") from None
        except Locked as error:
            raise Conflict(str(error), code="flag_locked") from None
        except ApprovalRequired as error:
            raise Conflict(str(error), code="approval_required") from None
        except BadValue as error:
            raise BadInput(str(error), code="bad_flag_value") from None
        return Response(_status(key))


class FlagHistoryView(APIView):
    """The changes of a flag on record, the latest first: old, new, who, when, why."""

    permission_classes = [MayHandleFlags]

    @extend_schema(
        operation_id="flag_history",
        parameters=[OpenApiParameter("limit", int, description=f"1 to {HISTORY_LIMIT}; default 50.")],
        responses={200: dict[str, Any]},
    )
    def get(self, request: Request, key: str) -> Response:
        try:
            registered(key)
        except UnknownFlag:
            raise _unknown(key) from None
        limit = _limit(request)
        changes = [change.facts() for change in islice(history(key), limit)]
        return Response({"key": key, "changes": changes})


def _status(key: str) -> dict[str, Any]:
    try:
        (status,) = statuses([key])
    except UnknownFlag:
        raise _unknown(key) from None
    return status.facts()


def _unknown(key: str) -> NotFound:
    return NotFound("There is no flag or setting of this name. GET /flags lists them.", code="flag_not_found")


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", "50")
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= HISTORY_LIMIT:
        raise BadInput(f"limit must be a whole number from 1 to {HISTORY_LIMIT}.", code="bad_limit")
    return int(given)
