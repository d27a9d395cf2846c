"""The looks of a guarded rollout as a small SVG. Attributes only: the page's CSP forbids inline styles and scripts."""

from collections.abc import Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, LEFT, TOP = 640, 160, 44, 18
COLOURS = {"canary": "#b35900", "control": "#417690"}
# The vertical axis shows at least this share, so that one error in a thousand turns does not look like a cliff.
LEAST_TOP = 0.02


def looks_chart(looks: Sequence[dict[str, Any]]) -> SafeString:
    """Share of errors of both arms over the looks, oldest first; a line where the rollout's share moved."""
    if not looks:
        return SafeString("")
    shares = {arm: [(n, _share(look[arm])) for n, look in enumerate(looks) if look[arm][0]] for arm in COLOURS}
    highest = max([LEAST_TOP, *(share for points in shares.values() for _, share in points)])
    step = (WIDTH - LEFT) / max(len(looks) - 1, 1)

    def place(index: int, share: float) -> str:
        return f"{LEFT + index * step:.1f},{TOP + (HEIGHT - TOP) * (1 - share / highest):.1f}"

    lines = format_html_join(
        "",
        '<polyline fill="none" stroke="{}" stroke-width="2" points="{}"/>',
        ((COLOURS[arm], " ".join(place(n, share) for n, share in points)) for arm, points in shares.items()),
    )
    return format_html(
        '<svg role="img" width="{}" height="{}" viewBox="0 0 {} {}" font-size="12" font-family="sans-serif">'
        "<title>Share of errors of the canary and of the control</title>"
        '<path d="M{} {}V{}H{}" fill="none" stroke="#999"/>'
        '<text x="0" y="{}" fill="#777">{} %</text><text x="0" y="{}" fill="#777">0 %</text>'
        '<text x="{}" y="12" fill="{}">canary</text><text x="{}" y="12" fill="{}">control</text>{}{}</svg>',
        *(WIDTH, HEIGHT + 4, WIDTH, HEIGHT + 4),
        *(LEFT, TOP, HEIGHT, WIDTH),
        *(TOP + 10, f"{100 * highest:.2g}", HEIGHT),
        *(LEFT + 8, COLOURS["canary"], LEFT + 64, COLOURS["control"]),
        _stages(looks, step),
        lines,
    )


def _stages(looks: Sequence[dict[str, Any]], step: float) -> SafeString:
    moved = [n for n in range(1, len(looks)) if looks[n]["stage_bp"] != looks[n - 1]["stage_bp"]]
    return format_html_join(
        "",
        '<path d="M{} {}V{}" stroke="#999" stroke-dasharray="3 3"/><text x="{}" y="{}" fill="#777">{} %</text>',
        (
            (f"{LEFT + n * step:.1f}", TOP, HEIGHT, f"{LEFT + n * step + 3:.1f}", TOP + 10, looks[n]["stage_bp"] / 100)
            for n in moved
        ),
    )


def _share(arm: Sequence[int]) -> float:
    turns, errors = arm
    return errors / turns
