"""How a record is written: the standard library's logging, and nothing else."""

from api_hour.logs.formatters import JSONFormatter as JSONFormatter
from api_hour.logs.formatters import NonBlockingHandler as NonBlockingHandler
from api_hour.logs.formatters import TextFormatter as TextFormatter
