from collections.abc import Iterator

from django.http import StreamingHttpResponse
from django.utils import timezone

MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "zip": "application/zip"}


def download(pieces: Iterator[str] | Iterator[bytes], format_: str) -> StreamingHttpResponse:
    """A file under the name of this moment, which no cache keeps."""
    name = f"onesource-turns-{timezone.now():%Y%m%dT%H%M%SZ}.{format_}"
    return StreamingHttpResponse(
        pieces,
        content_type=MEDIA_TYPES[format_],
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
