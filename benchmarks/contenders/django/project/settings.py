"""Production settings: what the cases do not use is left out."""

import os
from urllib.parse import parse_qs, urlsplit

database = urlsplit(os.environ["DATABASE_URL"])

ALLOWED_HOSTS = ["127.0.0.1"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": database.path.removeprefix("/"),
        "USER": database.username or "",
        "PASSWORD": database.password or "",
        "HOST": parse_qs(database.query).get("host", [database.hostname or ""])[0],
        "PORT": str(database.port or ""),
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 10}},
    }
}
DEBUG = False
INSTALLED_APPS = ["kitchen"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # for Content-Length
ROOT_URLCONF = "project.urls"
SECRET_KEY = "nothing is signed here"  # noqa: S105
USE_I18N = False
