from django.urls import include, path

from review import pages

urlpatterns = [
    path("", pages.search_page, name="review"),
    path("turns/<uuid:turn_id>/", pages.turn_page, name="review-turn"),
    path("turns/<uuid:turn_id>/reveal", pages.reveal_page, name="review-reveal"),
    path("turns/<uuid:turn_id>/proof", pages.proof_page, name="review-proof"),
    path("turns/<uuid:turn_id>/verify", pages.verify_page, name="review-verify"),
    path("events/", pages.events_page, name="review-events"),
    path("events/<uuid:uid>/", pages.event_page, name="review-event"),
    path("checkpoints/", pages.checkpoints_page, name="review-checkpoints"),
    path("export", pages.export_page, name="review-export"),
    path("api/", include("review.api.urls")),
]
