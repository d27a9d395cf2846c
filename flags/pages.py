"""The Flags page in the admin: everything at a glance, and a kill switch within reach."""

from itertools import islice
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.views.decorators.http import require_POST, require_safe

from audit.services import subject_ref_of
from flags.change_services import switch_off
from flags.models import Flag, Setting, Switch
from flags.permissions import may
from flags.registry import REGISTRY, BadValue
from flags.rollout_services import rollouts_open
from flags.status import change_text, history, statuses

HISTORY_ROWS = 200


def _allowed(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied


def _rows(user: Any) -> list[dict[str, Any]]:
    pks = {row.change_key(): row.pk for model in (Flag, Switch, Setting) for row in model.objects.all()}
    rows = []
    for status in statuses():
        change = status.last_change
        sees = may(user, "view", status.key)
        rows.append(
            {
                "status": status,
                "may_change": may(user, "change", status.key),
                "edit": reverse(status.path, args=[pks[status.key]]) if status.path and sees else "",
                "history": reverse("admin-flag-history", args=[status.key]) if sees else "",
                "old": change_text(change.old) if change else "",
                "new": change_text(change.new) if change else "",
            }
        )
    # What can be needed in a hurry first.
    return sorted(rows, key=lambda row: (row["status"].entry.kind != "kill-switch", row["status"].key))


@require_safe
def flags_page(request: HttpRequest) -> HttpResponse:
    _allowed(request.user.has_perm("flags.view_flag"))
    context = {
        **admin.site.each_context(request),
        "title": "Flags and settings",
        "open_rollouts": rollouts_open(),
        "rows": _rows(request.user),
    }
    return TemplateResponse(request, "flags/overview.html", context)


@require_POST
def flag_switch_off(request: HttpRequest, key: str) -> HttpResponseBase:
    _allowed(may(request.user, "change", key))
    entry = REGISTRY.get(key)
    if entry is None or entry.kind != "kill-switch":
        raise Http404
    reason = request.POST.get("reason", "").strip()[:500]
    try:
        switch_off(key=key, actor_ref=subject_ref_of(request.user), reason=reason, source="admin")
    except BadValue as error:
        messages.error(request, f"{error}.")
    else:
        messages.success(request, f"{key} is off, on every worker within a second.")
    return redirect("admin-flags")


@require_safe
def flag_history(request: HttpRequest, key: str) -> HttpResponse:
    _allowed(may(request.user, "view", key))
    if key not in REGISTRY:
        raise Http404
    changes = [
        {"change": change, "old": change_text(change.old), "new": change_text(change.new)}
        for change in islice(history(key), HISTORY_ROWS)
    ]
    context = {**admin.site.each_context(request), "title": f"History of {key}", "key": key, "changes": changes}
    return TemplateResponse(request, "flags/history.html", context)


# Before the admin's own: /admin/flags/ would be the bare list of its models.
urlpatterns = [
    path("admin/flags/", admin.site.admin_view(flags_page), name="admin-flags"),
    path("admin/flags/switch-off/<str:key>", admin.site.admin_view(flag_switch_off), name="admin-flag-off"),
    path("admin/flags/history/<str:key>", admin.site.admin_view(flag_history), name="admin-flag-history"),
]
