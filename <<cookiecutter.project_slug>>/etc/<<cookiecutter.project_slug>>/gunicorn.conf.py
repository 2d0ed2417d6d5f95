"""Gunicorn's hooks, which need Python. Its settings are in main.yaml, under ``api_hour``."""

from typing import Any


def when_ready(server: Any) -> None:
    """In development, print what to try once the listeners are bound."""
    if not server.cfg.reload:
        return
    urls = {listener.name: str(listener).replace("tcp:", "http:") for listener in server.LISTENERS}
    text = f"""
Starting at {urls["http"]}, and for operators at {urls["admin"]}.
Once the log says Worker ready, read and try all of it in a browser, or from another terminal:

    {urls["http"]}/docs
    curl {urls["http"]}/
    curl {urls["admin"]}/health/engines

Save a file: once the log says Reloaded, the new code answers.
Ctrl-C stops everything<< "; the data is kept" if cookiecutter.database != "none" >>.
"""
    print(text, flush=True)
