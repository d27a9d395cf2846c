from django import template

from audit.actions import KINDS

register = template.Library()


@register.filter
def kind_label(name: str) -> str:
    """Of a kind of event; the name itself of one that this release does not know."""
    kind = KINDS.get(name)
    return kind.label if kind else name


@register.filter
def hexadecimal(value: bytes) -> str:
    return bytes(value).hex()
