from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_view

from chat.api import streams, views


@extend_schema_view(post=extend_schema(description="Ask a question; the model gets the conversation alone."))
class ChatView(views.TurnView):
    endpoint = "chat"


@extend_schema_view(
    post=extend_schema(description="Ask a question; the model gets passages of the knowledge base to cite as well.")
)
class EnhancedView(views.TurnView):
    endpoint = "enhanced"


urlpatterns = [
    path("chat", ChatView.as_view(), name="chat"),
    path("chat/enhanced", EnhancedView.as_view(), name="chat-enhanced"),
    path("chat/sessions", views.SessionListView.as_view(), name="sessions"),
    path("chat/sessions/<str:session_id>", views.SessionView.as_view(), name="session"),
    path("chat/turns/<str:turn_id>/stream", streams.StreamView.as_view(), name="turn-stream"),
    path("chat/turns/<str:turn_id>/stop", streams.StopView.as_view(), name="turn-stop"),
    path("flags", views.FlagsView.as_view(), name="flags"),
]
