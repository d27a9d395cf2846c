from django.contrib.admin.apps import AdminConfig


class RecordedAdminConfig(AdminConfig):
    default_site = "audit.admin_site.RecordedAdminSite"
