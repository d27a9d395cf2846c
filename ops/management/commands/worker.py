import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from prometheus_client import start_http_server

from ops.configuration import configuration_record_start
from ops.jobs import jobs
from ops.leader import leadership
from ops.metrics import process_forget
from ops.worker import Worker


class Command(BaseCommand):
    help = (
        "Runs the background jobs (sealing, retention, guarded rollouts, scheduled changes) until SIGTERM. Run one or "
        "more: one of them leads, and when it ends another takes over."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--metrics-port", type=int, default=0, help="serve its own metrics on HOST and that port")
        parser.add_argument("--with-parent", action="store_true", help="end when the process that started this ends")

    def handle(self, *args: Any, **options: Any) -> None:
        parent = os.getppid() if options["with_parent"] else None
        stop = threading.Event()
        worker = Worker(jobs(stop.is_set), leadership(), stop=stop, parent=parent)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        if options["metrics_port"]:
            start_http_server(options["metrics_port"], addr=settings.HOST)
        configuration_record_start("worker")
        try:
            worker.run()
        finally:
            process_forget()
