import codecs
import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.parsers import BaseParser

from onesource.errors import BadInput, BodyTooLarge, UnsupportedMediaType


class StrictJSONParser(BaseParser):
    """One JSON object in UTF-8, of which every key counts: what two parsers read differently is refused."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        request = (parser_context or {})["request"]
        _check_headers(request.META, media_type or "")
        body = stream.read(settings.REQUEST_BODY_LIMIT + 1)
        if len(body) > settings.REQUEST_BODY_LIMIT:
            raise BodyTooLarge(f"The body may have at most {settings.REQUEST_BODY_LIMIT} bytes.")
        return _object(body)


def _check_headers(meta: Mapping[str, Any], media_type: str) -> None:
    if meta.get("HTTP_CONTENT_ENCODING", "identity").strip().lower() not in ("", "identity"):
        raise UnsupportedMediaType()
    if media_type.split(";")[0].strip().lower() != "application/json":
        # DRF lets a media range of the client's stand for ours.
        raise UnsupportedMediaType()
    parameters = media_type.lower().replace(" ", "").replace('"', "").split(";")[1:]
    if any(p.startswith("charset=") and p not in ("charset=utf-8", "charset=utf8") for p in parameters):
        raise UnsupportedMediaType()


def _object(body: bytes) -> dict[str, Any]:
    if body.startswith(codecs.BOM_UTF8):
        raise BadInput("Leave out the byte order mark at the start of the body.", code="malformed_json")
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise BadInput("The body is not valid UTF-8 text.", code="malformed_json") from None
    except (ValueError, RecursionError):
        raise BadInput("The body is not valid JSON.", code="malformed_json") from None
    if not isinstance(found, dict):
        raise BadInput("The body must be a JSON object.", code="malformed_json")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadInput("The body names a key twice.", code="malformed_json")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)
