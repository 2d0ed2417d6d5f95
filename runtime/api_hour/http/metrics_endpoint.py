"""The endpoint of the metrics of all workers; belongs on a listener for operators only."""

from aiohttp import web

from api_hour.http.threads import threaded_apart
from api_hour.metrics import CONTENT_TYPE, text


@threaded_apart
def show_metrics(request: web.Request) -> web.Response:
    """Answer with the metrics of all workers in Prometheus' text format."""
    return web.Response(body=text(), headers={"Content-Type": CONTENT_TYPE})
