"""One answer on socketify: ``python app.py PORT``."""

import sys

import orjson
from socketify import App, AppListenOptions


def index(response, request):
    response.write_header("Content-Type", "application/json")
    response.end(orjson.dumps({"message": "Hello, World!"}))


app = App(request_response_factory_max_items=1_000)
app.get("/index", index)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"))
app.run()
