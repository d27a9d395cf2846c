"""Why somebody looks: asked for before content or evidence leaves, and kept for as long as the trail."""

from chat.api.serializers import text_clean
from onesource.errors import BadInput

LEAST, MOST = 10, 500
EXPECTED = f"Say why, in {LEAST} to {MOST} characters that are not blank."


def reason_check(text: str) -> str:
    """The reason as it goes on record. Raises BadInput."""
    reason = text_clean(text).strip()
    if len(reason) > MOST or len("".join(reason.split())) < LEAST:
        raise BadInput(EXPECTED, code="reason_required", errors={"reason": [EXPECTED]})
    return reason
