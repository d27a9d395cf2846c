"""The settings as an operator's process reads them: in a process of its own, with nothing but the given variables."""

import base64
import subprocess
import sys
from pathlib import Path

from tests.environment import ROOT, clean_environment

KEY = base64.b64encode(bytes(range(32))).decode()
SECRETS = {
    "SECRET_KEY": "throw-away " + "0123456789abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "CONTENT_KEYS": f"first:{KEY}",
    "AUDIT_SIGNING_KEY": KEY,
}
PRODUCTION = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "onesource.example",
    "DATABASE_URL": "postgres://onesource:unused@127.0.0.1:5432/onesource",
    **SECRETS,
}
# Whitenoise warns that nothing was collected; that is the business of deploy/run.py.
SETTINGS = "import onesource.settings"
APPLICATION = "from onesource.wsgi import application"


def boot_start(code: str, var: Path, env: dict[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=clean_environment() | {"DJANGO_SETTINGS_MODULE": "onesource.settings", "VAR_DIR": str(var)} | env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def boot(code: str, var: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    process = boot_start(code, var, env)
    stdout, stderr = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def without(env: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in env.items() if name not in names}
