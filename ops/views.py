import ipaddress
import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST

from chat.api.authentication import TokenAuthentication
from chat.guard.schema import VERSION as SCHEMA_VERSION
from flags import snapshot
from onesource.errors import Forbidden, ProblemError
from ops.health import readiness
from ops.metrics import exposition

OPERATE = "ops.operate"


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Touches nothing outside the process: a restart does not bring a database back."""
    started = time.perf_counter()
    body: dict[str, Any] = {"status": "healthy", "version": settings.VERSION}
    body["response_time_ms"] = round((time.perf_counter() - started) * 1000, 3)
    return JsonResponse(body)


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    health = readiness()
    return JsonResponse({"status": health.status, "health_checks": health.checks}, status=health.http_status)


@never_cache
@require_safe
def version(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "version": settings.VERSION,
            "schema_version": SCHEMA_VERSION,
            "commit": settings.GIT_COMMIT,
            "build_time": settings.BUILD_TIME,
            "environment": settings.ENVIRONMENT,
            "track": settings.RELEASE_TRACK,
            "feature_flags": snapshot.current().evaluate(None),
        }
    )


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    if not (_from_allowed_network(request) or _operator(request)):
        raise Forbidden("Metrics are for METRICS_ALLOWED_NETWORKS or a token of an operator.")
    return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


def _from_allowed_network(request: HttpRequest) -> bool:
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR") or "")
    except ValueError:
        return False
    return any(address in network for network in settings.METRICS_ALLOWED_NETWORKS)


def _operator(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return False
    try:
        user, _row = TokenAuthentication().authenticate_credentials(token.encode("utf-8", "replace"))
    except ProblemError:
        return False
    return bool(user.has_perm(OPERATE))
