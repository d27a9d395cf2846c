from django.urls import path

from chat.api import streams, views

urlpatterns = [
    path("chat", views.TurnView.as_view(endpoint="chat"), name="chat"),
    path("chat/enhanced", views.TurnView.as_view(endpoint="enhanced"), name="chat-enhanced"),
    path("chat/sessions", views.SessionListView.as_view(), name="sessions"),
    path("chat/sessions/<str:session_id>", views.SessionView.as_view(), name="session"),
    path("chat/turns/<str:turn_id>/stream", streams.StreamView.as_view(), name="turn-stream"),
    path("chat/turns/<str:turn_id>/stop", streams.StopView.as_view(), name="turn-stop"),
    path("flags", views.FlagsView.as_view(), name="flags"),
]
