"""Gunicorn's hooks, which need Python. Its settings are in main.yaml, under ``api_hour``."""

from typing import Any


def when_ready(server: Any) -> None:
    """In development, print what to try once the listeners are bound."""
    if not server.cfg.reload:
        return
    urls = {listener.name: str(listener).replace("tcp:", "http:") for listener in server.LISTENERS}
<% if cookiecutter.database != "none" %>
    example = """--json '{"name": "first"}'"""
<% endif %>
    text = f"""
Starting at {urls["http"]}, and for operators at {urls["admin"]}.
Once the log says Worker ready, try:

    curl {urls["http"]}/
<% if cookiecutter.database != "none" %>
    curl {urls["http"]}/records {example}
    curl {urls["http"]}/records/1
    curl {urls["admin"]}/health/engines
<% else %>
    curl {urls["admin"]}/health/ready
<% endif %>

Save a file: once the log says Reloaded, the new code answers.
Ctrl-C stops everything<< "; the records are kept" if cookiecutter.database != "none" >>.
"""
    print(text, flush=True)
