"""The reviewers' pages under /audit/. No question and no answer is on any of them but the one that reveals."""

import uuid
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from audit.actions import KINDS
from audit.selectors import facts_of
from audit.services import subject_ref_of
from onesource.errors import BadInput
from review import record
from review.downloads import download
from review.forms import EventSearchForm, ExportForm, ReasonForm, SearchForm, TurnSearchForm
from review.paging import Page
from review.permissions import EXPORT, REVEAL, reviewers
from review.selectors import (
    checkpoints_newest,
    content_state,
    event_for,
    event_of,
    events_search,
    leaf_index,
    proof_of,
    turn_checks,
    turn_for,
    turns_search,
)
from review.services import content_reveal, turns_export
from review.timeline import timeline

SOURCE = "page"
DEFAULT_SPAN = timedelta(days=7)
SINCE = "%Y-%m-%dT%H:%M"


def _asked(request: HttpRequest) -> QueryDict:
    """The filters as given; the last days when nothing is said of a beginning."""
    asked = request.GET.copy()
    if "from" not in asked:
        asked["from"] = f"{timezone.now() - DEFAULT_SPAN:{SINCE}}"
    return asked


def _next(asked: QueryDict, page: Page[Any]) -> str:
    """The query of the page after `page`, or ""."""
    following = {name: value for name, value in asked.items() if value and name != "cursor"}
    # Kept although empty: without it the last days would be meant.
    following.setdefault("from", "")
    return urlencode({**following, "cursor": page.cursor}) if page.cursor else ""


def _found(form: SearchForm, asked: QueryDict, search: Any) -> tuple[dict[str, Any], int]:
    """What both lists show: the page found, or the form's errors, or that of the cursor, with the status."""
    context: dict[str, Any] = {"form": form}
    if not form.is_valid():
        return context, 400
    try:
        page = search(form.filters(), asked.get("cursor", ""))  # type: ignore[attr-defined]
    except BadInput as error:
        return {**context, "problem": error.detail}, 400
    return {**context, "page": page, "next": _next(asked, page)}, 200


@reviewers()
@require_safe
def search_page(request: HttpRequest) -> HttpResponse:
    asked = _asked(request)
    form = TurnSearchForm(asked)
    context, status = _found(form, asked, turns_search)
    context |= {
        "section": "turns",
        # What cannot be searched for cannot be exported.
        "export": _export_form(request) if "page" in context else None,
        "given": {name: value for name, value in asked.items() if value and name in form.names()},
    }
    return render(request, "review/search.html", context, status=status)


def _export_form(request: HttpRequest, given: QueryDict | None = None) -> ExportForm | None:
    """For those who may export; the texts for those alone who may reveal them."""
    if not request.user.has_perm(EXPORT):
        return None
    return ExportForm(given, auto_id="export_%s", may_reveal=request.user.has_perm(REVEAL))


@reviewers()
@require_safe
def turn_page(request: HttpRequest, turn_id: uuid.UUID) -> HttpResponse:
    return _turn_page(request, turn_id)


def _turn_page(
    request: HttpRequest, turn_id: uuid.UUID, *, reason: ReasonForm | None = None, status: int = 200, **more: Any
) -> HttpResponse:
    turn = turn_for(turn_id)
    event = event_of(turn)
    facts = facts_of(event) if event else {}
    state = content_state(turn)
    context = {
        "turn": turn,
        "event": event,
        "facts": facts,
        "repairs": record.repairs(facts),
        "flags": record.flags(facts),
        "passages": record.passages(facts),
        "arms": sorted((turn.arms or {}).items()),
        "timeline": timeline(turn, state),
        "state": state,
        "reason": (reason or ReasonForm(auto_id="reveal_%s")) if request.user.has_perm(REVEAL) else None,
        "export": _export_form(request),
        **more,
    }
    return render(request, "review/turn.html", context, status=status)


@reviewers(REVEAL)
@require_POST
def reveal_page(request: HttpRequest, turn_id: uuid.UUID) -> HttpResponse:
    form = ReasonForm(request.POST, auto_id="reveal_%s")
    if not form.is_valid():
        return _turn_page(request, turn_id, reason=form, status=400)
    revealed = content_reveal(
        turn_id=turn_id,
        reason=form.cleaned_data["reason"],
        actor_ref=subject_ref_of(request.user),
        source=SOURCE,
    )
    return render(request, "review/reveal.html", {"revealed": revealed, "reason": form.cleaned_data["reason"]})


@reviewers(EXPORT)
@require_safe
def proof_page(request: HttpRequest, turn_id: uuid.UUID) -> HttpResponse:
    turn = turn_for(turn_id)
    return render(request, "review/proof.html", {"turn": turn, "proof": proof_of(turn)})


@reviewers()
@require_POST
def verify_page(request: HttpRequest, turn_id: uuid.UUID) -> HttpResponse:
    checks = turn_checks(turn_for(turn_id))
    return _turn_page(request, turn_id, checks=checks, intact=all(check.ok for check in checks))


@reviewers()
@require_safe
def checkpoints_page(request: HttpRequest) -> HttpResponse:
    context = {"checkpoints": checkpoints_newest(), "section": "checkpoints"}
    return render(request, "review/checkpoints.html", context)


@reviewers(EXPORT)
@require_POST
def export_page(request: HttpRequest) -> HttpResponseBase:
    """The filters of the search, a reason and a format; what is wrong with one of them is told on the search's page."""
    search, form = TurnSearchForm(request.POST), _export_form(request, request.POST)
    assert form is not None
    problem = ""
    if search.is_valid() and form.is_valid():
        try:
            pieces = turns_export(
                filters=search.filters(),
                format_=form.cleaned_data["format"],
                reason=form.cleaned_data["reason"],
                actor_ref=subject_ref_of(request.user),
                source=SOURCE,
                with_content=form.cleaned_data.get("content", False),
            )
            return download(pieces, form.cleaned_data["format"])
        except BadInput as error:
            problem = error.detail
    given = {name: value for name, value in request.POST.items() if value and name in search.names()}
    context = {"form": search, "export": form, "problem": problem, "given": given, "section": "turns"}
    return render(request, "review/search.html", context, status=400)


@reviewers()
@require_safe
def events_page(request: HttpRequest) -> HttpResponse:
    asked = _asked(request)
    context, status = _found(EventSearchForm(asked), asked, events_search)
    return render(request, "review/events.html", {**context, "section": "events"}, status=status)


@reviewers()
@require_safe
def event_page(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    event = event_for(uid)
    facts = facts_of(event)
    kind = KINDS.get(event.kind)
    context = {
        "event": event,
        "label": kind.label if kind else event.kind,
        "lines": record.lines(facts),
        "body": bytes(event.body).decode("utf-8", "replace"),
        "index": leaf_index(event),
        "turn_id": _uuid(facts.get("turn_id")),
    }
    return render(request, "review/event.html", context)


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None
