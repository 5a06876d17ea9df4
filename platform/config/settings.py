"""Every setting, from the environment. `.env.example` lists each variable with its meaning and default.

Without any variable set, Fovea runs embedded: SQLite, the database as queue, local disk, bound to this machine.
"""

import os
import secrets
import sys
import tempfile
from pathlib import Path
from typing import Any

import environ
from csp.constants import NONE, SELF

PACKAGE = Path(__file__).resolve().parent
BUNDLED = PACKAGE / "_assets"
ASSETS = BUNDLED if BUNDLED.is_dir() else PACKAGE.parents[1]
TESTING = "pytest" in sys.modules

env = environ.Env()
environ.Env.read_env(ASSETS / ".env")

# Where Fovea keeps what it makes: database, uploads, job outputs, exports.
HOME = Path(env.str("FOVEA_HOME", default=str(ASSETS / "var"))).resolve()
MEDIA_ROOT = HOME / "media"
JOBS_ROOT = MEDIA_ROOT / "jobs"
EXPORTS_ROOT = MEDIA_ROOT / "exports"
UPLOADS_ROOT = MEDIA_ROOT / "uploads"
DATASETS_ROOT = MEDIA_ROOT / "datasets"
CALIBRATIONS_ROOT = MEDIA_ROOT / "calibrations"
MODEL_VERSIONS_ROOT = MEDIA_ROOT / "model_versions"


def _paths(variable: str, default: str = "") -> list[Path]:
    return [Path(item).expanduser().resolve() for item in env.str(variable, default=default).split(":") if item]


# Folders whose recordings users may browse and register; nothing outside them and HOME is ever read for a user.
DATA_ROOTS = _paths("FOVEA_DATA_ROOTS", str(HOME / "recordings"))
MODELS_FOLDERS = _paths("FOVEA_MODELS_DIR", str(HOME / "models"))
CALIBRATION_FOLDERS = _paths("FOVEA_CALIBRATION_DIR")
MODELS_IDLE_SECONDS = env.int("FOVEA_MODELS_IDLE_SECONDS", default=600)

DEBUG = env.bool("DEBUG", default=False)


def _secret_key() -> str:
    """From the environment, else made once and kept in HOME, readable by the owner alone."""
    key = env.str("SECRET_KEY", default="")
    if key:
        return key
    path = HOME / "secret_key"
    if not path.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(64))
    return path.read_text()


SECRET_KEY = _secret_key()
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
HTTPS = env.bool("HTTPS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000 if HTTPS else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
BEHIND_PROXY = env.bool("BEHIND_PROXY", default=False)
if BEHIND_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    AXES_IPWARE_PROXY_COUNT = 1
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

INSTALLED_APPS = [
    "core",
    "accounts",
    "labeling.datasets",
    "labeling.jobs",
    "labeling.review",
    "training",
    "core.admin_site.FoveaAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "django_filters",
    "django_q",
    "channels",
    "axes",
    "csp",
]

MIDDLEWARE = [
    "core.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "core.static.StaticFilesMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ASSETS / "templates"],
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

DATABASES: dict[str, dict[str, Any]] = {
    "default": env.db("DATABASE_URL", default=f"sqlite:///{HOME / 'fovea.sqlite3'}")
}
# Persistent connections: closing the last SQLite connection checkpoints the whole WAL, five times slower enqueueing.
DATABASES["default"]["CONN_MAX_AGE"] = None
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    HOME.mkdir(parents=True, exist_ok=True)
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA temp_store=MEMORY;PRAGMA cache_size=-64000;"
        ),
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", default="")
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS_URL}
    if REDIS_URL
    else {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
}
# Only fans out inside one process; between processes the outbox table does (core.live).
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

# A message is only a hint that a row wants work: the row's lease decides who does it, so a doubled one is harmless.
QUEUES = ("default", "gpu")
WORK_SLICE_SECONDS = 20
WORK_LEASE_SECONDS = env.int("FOVEA_LEASE_SECONDS", default=60)
_QUEUE = {"workers": 1, "queue_limit": 1, "timeout": 3600, "retry": 14_400, "max_attempts": 1, "ack_failures": True}
Q_CLUSTER = {
    **_QUEUE,
    "name": "default",
    "workers": env.int("FOVEA_WORKERS", default=1),
    "save_limit": -1,
    "poll": 0.1,
    "catch_up": False,
    "daemonize_workers": False,
    "label": "Queue",
    **({"redis": REDIS_URL} if REDIS_URL else {"orm": "default"}),
    "ALT_CLUSTERS": {"gpu": {**_QUEUE}},
}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTH_PASSWORD_VALIDATORS[1]["OPTIONS"] = {"min_length": 10}
LOGIN_URL = "accounts:sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "accounts:sign-in"
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_USERNAME_FORM_FIELD = "username"
AXES_USERNAME_CALLABLE = "accounts.services.sign_in_name"
AXES_LOCKOUT_TEMPLATE = "accounts/locked_out.html"
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="fovea@localhost")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["core.api.parsing.GuardedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "core.api.pagination.PagePagination",
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "core.api.filters.Ordering",
    ],
    "DEFAULT_SCHEMA_CLASS": "core.api.schema.Schema",
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.AnonRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "user": env.str("FOVEA_THROTTLE_USER", default="6000/min"),
        "masks": env.str("FOVEA_THROTTLE_MASKS", default="240/min"),
        "anon": env.str("FOVEA_THROTTLE_ANONYMOUS", default="60/min"),
    },
    "EXCEPTION_HANDLER": "core.api.errors.problem_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Fovea API",
    "DESCRIPTION": "Recordings in, labelled and traceable training datasets out.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "COMPONENT_SPLIT_REQUEST": True,
    "OAS_VERSION": "3.1.0",
    "ENUM_NAME_OVERRIDES": {
        "WorkStatusEnum": "core.models.WorkStatus",
        "StageNameEnum": "labeling.jobs.api.serializers.StageName",
        "DatasetFileStatusEnum": "labeling.datasets.models.DatasetFile.Status",
        "CalibrationFormatEnum": "labeling.datasets.models.Calibration.Format",
        "DetectionSourceEnum": "labeling.jobs.models.Detection.Source",
        "TrainingDatasetFormatEnum": "training.models.TrainingDataset.Format",
    },
}

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = HOME / "staticfiles"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [ASSETS / "static"]
# Fingerprinted names only where `collectstatic` has run; else WhiteNoise finds the files where they lie.
WHITENOISE_USE_FINDERS = not (STATIC_ROOT / "staticfiles.json").exists()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if WHITENOISE_USE_FINDERS or TESTING
        else "core.static.ModuleManifestStorage"
    },
}

PURGE_DAYS = env.int("FOVEA_PURGE_DAYS", default=30)
UPLOAD_MAX_BYTES = env.int("FOVEA_UPLOAD_MAX_BYTES", default=200 * 1024**3)
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024**2
MEDIA_X_ACCEL_PREFIX = env.str("FOVEA_X_ACCEL_PREFIX", default="")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname:<7} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    "loggers": {"django-q": {"level": "WARNING"}, "axes": {"level": "WARNING"}, "uvicorn": {"level": "WARNING"}},
}
if TESTING:
    if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
        # A file, not memory: threads and processes then meet in tests as they do outside.
        DATABASES["default"]["TEST"] = {"NAME": str(Path(tempfile.gettempdir()) / f"fovea-test-{os.getpid()}.sqlite3")}
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    AXES_ENABLED = env.bool("AXES_ENABLED", default=True)
