"""`gunicorn -c deploy/gunicorn.conf.py onesource.wsgi`; WEB_WORKERS, WEB_THREADS and WORKER_CLASS adjust it."""

import os
import pathlib
import signal
import subprocess
import sys

bind = f"{os.environ.get('HOST') or '127.0.0.1'}:{os.environ.get('PORT') or '8000'}"
workers = int(os.environ.get("WEB_WORKERS") or "2")
threads = int(os.environ.get("WEB_THREADS") or "16")
worker_class = os.environ.get("WORKER_CLASS") or "gthread"
worker_connections = 1000
if worker_class == "gevent":
    # Before on_starting imports Django: what is imported by then keeps the blocking sockets and locks.
    from gevent import monkey

    monkey.patch_all()
# A provider call may take LLM_TIMEOUT_MS; the rest is for a slow database.
timeout = 60
graceful_timeout = 30
keepalive = 75
max_requests = 100_000
max_requests_jitter = 10_000
accesslog = None
# Its default is one path in the home directory for all instances.
control_socket_disable = True
# Errors of gunicorn's own go through the same JSON logging as everything else.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
    "root": {"level": "INFO", "handlers": []},
}


def on_starting(server):
    """Stops on a misconfiguration; wipes an earlier run's metrics, which would be added to those of this one."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onesource.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("check")
    if directory := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        for left in pathlib.Path(directory).glob("*.db"):
            left.unlink(missing_ok=True)


def when_ready(server):
    """One plain line for whoever waits in front of a terminal; in production all lines are JSON."""
    from django.conf import settings

    if not settings.PRODUCTION:
        print(f"\nReady: {server.LISTENERS[0]}/\n".replace("//0.0.0.0:", "//127.0.0.1:"), flush=True)
    if os.environ.get("WITH_WORKER") == "1":
        # Ends with this process, however that ends.
        subprocess.Popen([sys.executable, "manage.py", "worker", "--with-parent"])


def on_reload(server):
    """A reload reads code and secrets anew: its first worker records what it found."""
    server.configuration_recorded = False


def pre_fork(server, worker):
    """One worker of each start records the configuration."""
    worker.records_configuration = not getattr(server, "configuration_recorded", False)
    server.configuration_recorded = True


def child_exit(server, worker):
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def post_worker_init(worker):
    """A worker accepts when it is warm. From SIGTERM on /readyz says 503, while the requests at hand are finished."""
    from chat.streaming.sweeper import sweeper_start
    from ops.configuration import configuration_record_start
    from ops.health import draining
    from ops.warming import worker_warm

    worker_warm()
    sweeper_start()
    if worker.records_configuration:
        configuration_record_start("web")

    stop = signal.getsignal(signal.SIGTERM)

    def drain(number, frame):
        draining.set()
        stop(number, frame)

    signal.signal(signal.SIGTERM, drain)
