"""How a record is written, and how a fault of what observes is told; standard library only."""

from api_hour.logs.formatters import JSONFormatter as JSONFormatter
from api_hour.logs.formatters import TextFormatter as TextFormatter
from api_hour.logs.handlers import NonBlockingHandler as NonBlockingHandler
