"""Production settings: what the case does not use is left out."""

ALLOWED_HOSTS = ["127.0.0.1"]
DEBUG = False
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # for Content-Length
ROOT_URLCONF = "project.urls"
SECRET_KEY = "nothing is signed here"  # noqa: S105
USE_I18N = False
