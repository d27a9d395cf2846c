from rest_framework.pagination import CursorPagination


class RecentSessions(CursorPagination):
    page_size = 50
    ordering = ("-last_turn_at", "-id")
