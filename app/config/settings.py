"""Django's settings. Whatever differs between installations comes from `ENV`."""

from __future__ import annotations

from pathlib import Path

import django_stubs_ext

from config import environment
from config.database import databases
from config.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = environment.load_or_exit()
django_stubs_ext.monkeypatch()  # before anything imports a model or a form

# --- The app -----------------------------------------------------------------------
SECRET_KEY = ENV.secret_key.get_secret_value()
SECRET_KEY_FALLBACKS = [key.get_secret_value() for key in ENV.secret_key_fallbacks]
DEBUG = ENV.debug
ALLOWED_HOSTS = ENV.allowed_hosts
CSRF_TRUSTED_ORIGINS = ENV.csrf_trusted_origins

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "payments",
]
MIDDLEWARE = [
    "config.middleware.RequestIdMiddleware",  # first, so that every log line has the id
    "config.middleware.HealthMiddleware",  # before anything that looks at Host or scheme
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
LANGUAGE_CODE = "en-gb"
USE_TZ = True
TIME_ZONE = ENV.time_zone

# --- PostgreSQL --------------------------------------------------------------------
DATABASES = databases(ENV)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People ------------------------------------------------------------------------
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "request-list"
LOGOUT_REDIRECT_URL = "login"
SESSION_COOKIE_AGE = 12 * 60 * 60  # seconds: a working day
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Files -------------------------------------------------------------------------
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
MEDIA_ROOT = ENV.media_root
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        # Invoices are for the app alone; static files keep 0644, for the web server.
        "OPTIONS": {"file_permissions_mode": 0o640, "directory_permissions_mode": 0o750},
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"
        if not DEBUG
        else "django.contrib.staticfiles.storage.StaticFilesStorage",
    },
}
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

# --- HTTPS -------------------------------------------------------------------------
# Whether a request came over HTTPS is gunicorn's word (forwarded_allow_ips), so Django
# itself trusts no header.
SECURE_SSL_REDIRECT = ENV.secure_ssl_redirect
SESSION_COOKIE_SECURE = ENV.session_cookie_secure
CSRF_COOKIE_SECURE = ENV.csrf_cookie_secure
SECURE_HSTS_SECONDS = ENV.secure_hsts_seconds if ENV.https_enforced else 0
SILENCED_SYSTEM_CHECKS = [
    # Both promise something for other sites below the same domain (and preloading can't
    # be taken back for months): the domain's owner decides that, not one app on it.
    "security.W005",  # SECURE_HSTS_INCLUDE_SUBDOMAINS
    "security.W021",  # SECURE_HSTS_PRELOAD
]
X_FRAME_OPTIONS = "DENY"

# --- Logs --------------------------------------------------------------------------
LOGGING_CONFIG = "logging.config.dictConfig"
LOGGING = logging_config(level=ENV.log_level, format_name=ENV.log_format)
