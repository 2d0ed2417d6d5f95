"""Reads everything an operator wrote and returns one frozen, checked Generation.

It opens no socket, forks nothing and imports no project code.

Gunicorn reads some of its defaults from the environment while it is imported, where a bad value is
a traceback. So it is imported here first, without these variables; ``loader`` reads them itself.
It also asks for the working directory.
"""

import os
import sys

READ_BY_GUNICORN = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")

try:
    os.getcwd()
except OSError as error:
    sys.exit(
        f"api_hour: error: the working directory cannot be found: {error.strerror}: it was "
        "removed, or made anew; go to one that exists (cd)"
    )
_hidden = {name: os.environ.pop(name) for name in READ_BY_GUNICORN if name in os.environ}
try:
    import gunicorn.config  # noqa: F401
finally:
    os.environ.update(_hidden)
