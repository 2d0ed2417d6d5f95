"""The endpoint of the metrics of all workers; belongs on a listener for operators only."""

from aiohttp import web

from api_hour.exceptions import ConfigError
from api_hour.http.threads import threaded_apart
from api_hour.logs import observers
from api_hour.metrics import CONTENT_TYPE, text

RETRY_AFTER = "3"  # seconds until a folder that was removed is filled again


@threaded_apart
def show_metrics(request: web.Request) -> web.Response:
    """Answer with the metrics of all workers in Prometheus' text format.

    Answer 503 while they would miss something, so that Prometheus sees the scrape fail (``up`` is
    0) instead of a service without work.
    """
    try:
        body = text()
    except ConfigError as error:  # the setting metrics is off
        observers.failed("metrics", error)
        return web.Response(status=503, text=f"{error}\n")
    except OSError as error:
        observers.failed("metrics", error)
        reason = f"The metrics are incomplete: {error.strerror or error}\n"
        return web.Response(status=503, text=reason, headers={"Retry-After": RETRY_AFTER})
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})
