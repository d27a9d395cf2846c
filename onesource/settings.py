"""Settings, all from the environment. docs/configuration.md lists every variable; a test holds the two together."""

import base64
import secrets
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import dj_database_url

from onesource import __version__, env, redis
from onesource.logging import logging_config
from onesource.postgresql.connection import DeadlineConnection

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var")))
VAR_DIR.mkdir(parents=True, exist_ok=True, mode=0o700)

ENVIRONMENT = env.choice("ENVIRONMENT", "development", ("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.boolean("DEBUG", False)
RELEASE_TRACK = env.choice("RELEASE_TRACK", "stable", ("stable", "canary"))
VERSION = __version__
BUILD_TIME = env.text("BUILD_TIME") or None


def _commit() -> str | None:
    if value := env.text("GIT_COMMIT"):
        return value
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=BASE_DIR, capture_output=True, text=True, timeout=2, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


GIT_COMMIT = _commit()

# Secrets: required in production, made once under var/ otherwise.
_secrets = VAR_DIR / "secrets"


def _key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


SECRET_KEY = env.secret_or_made("SECRET_KEY", _secrets, lambda: secrets.token_urlsafe(64), required=PRODUCTION)
CONTENT_KEYS = env.secret_or_made("CONTENT_KEYS", _secrets, lambda: f"dev:{_key()}", required=PRODUCTION)
AUDIT_SIGNING_KEY = env.secret_or_made("AUDIT_SIGNING_KEY", _secrets, _key, required=PRODUCTION)

# The Merkle log over the audit trail
AUDIT_LOG_ORIGIN = env.text("AUDIT_LOG_ORIGIN", "onesource/audit")
AUDIT_VERIFY_KEYS = env.listing("AUDIT_VERIFY_KEYS")
AUDIT_CHECKPOINT_DIR = env.text("AUDIT_CHECKPOINT_DIR")
AUDIT_CHECKPOINT_WEBHOOK = env.url("AUDIT_CHECKPOINT_WEBHOOK", "", ("http", "https"))

# HTTP
HOST = env.text("HOST", "127.0.0.1")
PORT = env.integer("PORT", 8000, minimum=1, maximum=65535)
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS", "" if PRODUCTION else f"localhost,127.0.0.1,[::1],{HOST}")
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "onesource.urls"
WSGI_APPLICATION = "onesource.wsgi.application"
APPEND_SLASH = False
REQUEST_BODY_LIMIT = 64 * 1024
METRICS_ALLOWED_NETWORKS = env.networks("METRICS_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = True
SECURE_SSL_REDIRECT = PRODUCTION and env.boolean("SECURE_SSL_REDIRECT", True)
# The probes are asked over plain HTTP by the orchestrator, and the scraper sits inside the network.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^version$", r"^metrics$"]
SECURE_HSTS_SECONDS = 31536000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
# Only behind a proxy that sets the header itself: a client could otherwise claim to be on TLS.
if env.boolean("TRUST_X_FORWARDED_PROTO", False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    # Django's own, with a site that records what it changes.
    "audit.admin_config.RecordedAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "drf_spectacular",
    "knox",
    "rest_framework",
    "waffle",
    "onesource",
    "audit",
    "flags",
    "knowledge",
    "chat",
    "review",
    "ops",
]
MIDDLEWARE = [
    "onesource.middleware.KnownMethodMiddleware",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "onesource.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "onesource.middleware.ContentSecurityPolicyMiddleware",
    "onesource.middleware.ProblemMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "audit.actors.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
# Without a collected manifest (tests, manage.py) static files come straight from the finders.
WHITENOISE_USE_FINDERS = not PRODUCTION
if not PRODUCTION:
    STORAGES["staticfiles"]["BACKEND"] = "django.contrib.staticfiles.storage.StaticFilesStorage"

# Stores. A stopped PostgreSQL ignores statement_timeout, so the pool has a deadline of its own as well.
DATABASE_URL = env.url(
    "DATABASE_URL", f"sqlite:///{VAR_DIR / 'onesource.sqlite3'}", ("sqlite", "postgres", "postgresql")
)
DATABASE_TIMEOUT_MS = env.integer("DATABASE_TIMEOUT_MS", 3000, minimum=100, maximum=3_600_000)
DeadlineConnection.limit = DATABASE_TIMEOUT_MS / 1000 + 0.5
try:
    DATABASES: dict[str, Any] = {"default": dj_database_url.parse(DATABASE_URL)}
except ValueError:
    raise env.EnvError("DATABASE_URL", "is not a URL of a database") from None
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # BEGIN IMMEDIATE: two writers queue for the lock instead of failing half way through.
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        # recursive_triggers: INSERT OR REPLACE must not slip past the append-only triggers.
        # secure_delete: what is deleted is overwritten with zeros.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON; "
        "PRAGMA secure_delete=ON;",
    }
else:
    DATABASES["default"]["ENGINE"] = "onesource.postgresql"
    DATABASES["default"]["OPTIONS"] = {
        **DATABASES["default"].get("OPTIONS", {}),
        "connect_timeout": 2,
        "options": f"-c statement_timeout={DATABASE_TIMEOUT_MS} -c lock_timeout={DATABASE_TIMEOUT_MS} "
        "-c idle_in_transaction_session_timeout=10000",
        "pool": {
            "min_size": 1,
            "max_size": env.integer("DATABASE_POOL_SIZE", 16, minimum=1, maximum=200),
            "timeout": 2,
        },
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.secret("REDIS_URL")
REDIS_SOCKET_TIMEOUT_MS = env.integer("REDIS_SOCKET_TIMEOUT_MS", 200, minimum=10, maximum=10_000)
REDIS_CONNECT_TIMEOUT_MS = env.integer("REDIS_CONNECT_TIMEOUT_MS", 100, minimum=10, maximum=10_000)
CACHES: dict[str, Any] = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if REDIS_URL:
    CACHES["conversations"] = redis.cache_settings(
        "REDIS_URL",
        REDIS_URL,
        timeout=REDIS_SOCKET_TIMEOUT_MS / 1000,
        connect_timeout=REDIS_CONNECT_TIMEOUT_MS / 1000,
    )
MONGO_URL = env.secret("MONGO_URL")
env.mongo_check("MONGO_URL", MONGO_URL)
MONGO_TIMEOUT_MS = env.integer("MONGO_TIMEOUT_MS", 200, minimum=10, maximum=10_000)

# Accounts
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/accounts/login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "/"
# Without a sign-in only on a developer's own machine: nobody could tell who asked what.
ANONYMOUS_CHAT = not PRODUCTION
TOKEN_DAYS = env.integer("TOKEN_DAYS", 90, minimum=1, maximum=3650)
REST_KNOX = {"TOKEN_TTL": timedelta(days=TOKEN_DAYS), "AUTH_HEADER_PREFIX": "Bearer", "AUTO_REFRESH": False}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "chat.api.authentication.TokenAuthentication",
        "chat.api.authentication.SessionAuthentication",
        "chat.api.authentication.DevelopmentAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["chat.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "chat.api.negotiation.ContentNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "onesource.errors.exception_handler",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "COMPACT_JSON": True,
    # The Accept header says what is wanted; a second way would only be one more to get wrong.
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "ONESource",
    "DESCRIPTION": "Recorded, cited answers to construction-compliance questions for Australia and New Zealand.",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    # Not DevelopmentAuthentication: the document describes the product in production.
    "AUTHENTICATION_WHITELIST": [
        "chat.api.authentication.TokenAuthentication",
        "chat.api.authentication.SessionAuthentication",
    ],
    "POSTPROCESSING_HOOKS": ["chat.api.openapi.probes_add", "drf_spectacular.hooks.postprocess_schema_enums"],
}

WAFFLE_FLAG_MODEL = "flags.Flag"
WAFFLE_SWITCH_MODEL = "flags.Switch"
FLAG_APPROVALS = env.integer("FLAG_APPROVALS", 0, minimum=0, maximum=10)

# The model provider
LLM_PROVIDER = env.choice("LLM_PROVIDER", "extractive", ("extractive", "openai"))
LLM_BASE_URL = env.url("LLM_BASE_URL", "", ("http", "https"))
LLM_API_KEY = env.secret("LLM_API_KEY")
LLM_MODEL = env.text("LLM_MODEL")
LLM_SCHEMA_DIALECT = env.choice("LLM_SCHEMA_DIALECT", "openai", ("openai", "anthropic", "llama_cpp", "ollama", "vllm"))
# Below the number of threads, so that the probes always find one.
_threads = env.integer("WEB_THREADS", 16, minimum=2, maximum=512)
_concurrency = 1000 if env.text("WORKER_CLASS") == "gevent" else max(1, _threads - 4)
CHAT_CONCURRENCY = env.integer("CHAT_CONCURRENCY", _concurrency, minimum=1, maximum=10_000)
STREAM_RESUME_SECONDS = env.integer("STREAM_RESUME_SECONDS", 30, minimum=1, maximum=600)
LLM_CONTEXT_TOKENS = env.integer("LLM_CONTEXT_TOKENS", 8000, minimum=1000, maximum=2_000_000)
LLM_MAX_TOKENS = env.integer("LLM_MAX_TOKENS", 2048, minimum=64, maximum=128_000)

KNOWLEDGE_INDEX_DIR = VAR_DIR / "index"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-au"
USE_I18N = False

LOGGING_CONFIG = None
LOG_LEVEL = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
TESTING = "pytest" in sys.modules
logging_config(LOG_LEVEL)
