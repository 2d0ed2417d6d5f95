"""What needs Python: Gunicorn's hooks. Its settings stand in main.yaml, under ``api_hour``."""

from typing import Any


def when_ready(server: Any) -> None:
    """Say in development what to try, once the addresses are taken."""
    if not server.cfg.reload:
        return
    at = {listener.name: str(listener).replace("tcp:", "http:") for listener in server.LISTENERS}
<% if cookiecutter.database != "none" %>
    example = """--json '{"name": "first"}'"""
<% endif %>
    text = f"""
Serving at {at["http"]}, and for operators at {at["admin"]}. Try:

    curl {at["http"]}/
<% if cookiecutter.database != "none" %>
    curl {at["http"]}/records {example}
    curl {at["http"]}/records/1
    curl {at["admin"]}/health/engines
<% else %>
    curl {at["admin"]}/health/ready
<% endif %>

Save a file: when the log says Reloaded, answers come from it.
Ctrl-C stops everything<< "; the records stay" if cookiecutter.database != "none" >>.
"""
    print(text, flush=True)
