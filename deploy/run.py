"""`make run`: prepares the database and the knowledge base, prints how to ask, and becomes gunicorn."""

import io
import os
import pathlib
import socket
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.chdir(ROOT)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "onesource.settings")


def main() -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    _port_is_free(settings.HOST, settings.PORT)
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    call_command("knowledge", "load-pack")
    token = ""
    if not settings.PRODUCTION:
        printed = io.StringIO()
        call_command("token", "create", "developer", "--make-user", "--only", "--days", "7", stdout=printed)
        token = printed.getvalue().strip()
    _welcome(f"http://{_shown(settings.HOST)}:{settings.PORT}", token)
    metrics = settings.VAR_DIR / "metrics"
    metrics.mkdir(parents=True, exist_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(metrics)
    if not settings.PRODUCTION:
        os.environ.setdefault("WITH_WORKER", "1")
    sys.stdout.flush()
    arguments = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "onesource.wsgi"]
    os.execv(sys.executable, arguments)  # noqa: S606


def _port_is_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(f"Cannot listen on {host}:{port} ({error.strerror}). Choose another: make run PORT=8001")


def _shown(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104


def _welcome(address: str, token: str) -> None:
    print(f'\nONESource: {address}/   (answers once "Ready" appears below)')
    print("Worker:    runs beside this: seals the audit trail, deletes what is past its retention, moves rollouts")
    if token:
        print(f"Token:     {token}   (user developer, 7 days; each start makes a new one)")
        print(
            f"\ncurl -s {address}/chat/enhanced -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' "
            '-d \'{"question": "How high must a handrail be in an apartment building?"}\'\n'
        )


if __name__ == "__main__":
    main()
