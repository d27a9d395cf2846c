from django.contrib import admin
from django.contrib.auth import views as auth
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from chat.pages import ChatPage, api_docs

urlpatterns = [
    path("", ChatPage.as_view(), name="home"),
    path("", include("chat.api.urls")),
    path("", include("ops.urls")),
    path("accounts/login", auth.LoginView.as_view(template_name="login.html"), name="login"),
    path("accounts/logout", auth.LogoutView.as_view(), name="logout"),
    path("api/schema/", SpectacularAPIView.as_view(permission_classes=[]), name="schema"),
    path("api/docs/", api_docs, name="docs"),
    path("", include("flags.api.urls")),
    path("audit/", include("review.urls")),
    path("", include("flags.pages")),
    path("admin/", admin.site.urls),
]
handler400 = "onesource.errors.bad_request"
handler403 = "onesource.errors.forbidden"
handler404 = "onesource.errors.not_found"
handler500 = "onesource.errors.server_error"
