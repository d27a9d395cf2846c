from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request


class ContentNegotiation(DefaultContentNegotiation):
    """DRF's, which knows no quality values: what a client rates q=0 it does not want (RFC 9110, 12.4.2)."""

    def get_accept_list(self, request: Request) -> list[str]:
        ranges = super().get_accept_list(request)
        return [accepted for accepted in ranges if not _refused(accepted)]

    def select_renderer(self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None) -> Any:
        refused = {
            accepted.split(";")[0].strip().lower()
            for accepted in super().get_accept_list(request)
            if _refused(accepted)
        }
        return super().select_renderer(
            request, [renderer for renderer in renderers if renderer.media_type not in refused], format_suffix
        )


def _refused(accepted: str) -> bool:
    parameters = [parameter.strip().lower() for parameter in accepted.split(";")[1:]]
    return any(parameter.startswith("q=") and not parameter[2:].strip("0.") for parameter in parameters)
