"""A logging.yaml as a project has one, for the tests that read it and for those that run it."""

FILE = """\
version: 1
handlers:
  console:
    class: api_hour.logs.NonBlockingHandler
    formatter: !env LOG_FORMAT:text
formatters:
  text:
    (): api_hour.logs.TextFormatter
  json:
    (): api_hour.logs.JSONFormatter
root:
  level: INFO
  handlers: [console]
loggers:
  gunicorn.access:
    level: INFO
"""
