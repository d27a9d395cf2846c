"""What the generated OpenAPI document says of answers and errors; the answer's schema is the guard's own."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from chat.guard.schema import ANSWER

PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
    },
}
PROBLEM_RESPONSES: dict[Any, Any] = {
    (status, "application/problem+json"): PROBLEM for status in (400, 401, 403, 404, 405, 406, 429, 503)
}
_MORE = {(status, "application/problem+json"): PROBLEM for status in (409, 410, 413, 415)}


def _inlined(node: Any) -> Any:
    """The answer's schema without $ref: its definitions have no place of their own in the document."""
    if isinstance(node, dict):
        if "$ref" in node:
            return _inlined(ANSWER["$defs"][node["$ref"].rsplit("/", 1)[1]])
        return {key: _inlined(value) for key, value in node.items() if key not in ("$defs", "$schema", "$id")}
    return [_inlined(item) for item in node] if isinstance(node, list) else node


ANSWER_RESPONSES: dict[Any, Any] = {200: _inlined(ANSWER), **PROBLEM_RESPONSES, **_MORE}


class BearerToken(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "chat.api.authentication.TokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer"}


class SessionCookie(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "chat.api.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


PROBES = {
    "/healthz": ("The process answers; touches nothing outside it.", "application/json"),
    "/readyz": ("Whether turns can be recorded: ready or degraded with 200, not_ready with 503.", "application/json"),
    "/version": ("What runs here, and its flags.", "application/json"),
    "/metrics": ("Prometheus text of all workers; METRICS_ALLOWED_NETWORKS or an operator's token.", "text/plain"),
}


def probes_add(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Plain Django views, so that they depend on as little as possible; they belong in the document all the same."""
    for path, (description, media_type) in PROBES.items():
        schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
        result["paths"][path] = {
            "get": {
                "operationId": path.strip("/"),
                "description": description,
                "responses": {"200": {"description": "", "content": {media_type: {"schema": schema}}}},
            }
        }
    return result
