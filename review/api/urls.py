from django.urls import path

from review.api import views

urlpatterns = [
    path("turns", views.TurnListView.as_view(), name="review-api-turns"),
    path("turns/<str:turn_id>", views.TurnView.as_view(), name="review-api-turn"),
    path("turns/<str:turn_id>/reveal", views.RevealView.as_view(), name="review-api-reveal"),
    path("turns/<str:turn_id>/proof", views.ProofView.as_view(), name="review-api-proof"),
    path("checkpoints/latest", views.CheckpointView.as_view(), name="review-api-checkpoint"),
    path("export", views.ExportView.as_view(), name="review-api-export"),
]
