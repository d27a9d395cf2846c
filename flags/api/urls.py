from django.urls import path

from flags.api import ofrep, views

urlpatterns = [
    path("flags/<str:key>", views.FlagStatusView.as_view(), name="flag"),
    path("flags/<str:key>/history", views.FlagHistoryView.as_view(), name="flag-history"),
    path("ofrep/v1/evaluate/flags", ofrep.BulkEvaluationView.as_view(), name="ofrep-flags"),
    path("ofrep/v1/evaluate/flags/<str:key>", ofrep.FlagEvaluationView.as_view(), name="ofrep-flag"),
]
