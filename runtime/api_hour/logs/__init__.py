"""How a record is written; standard library only."""

from api_hour.logs.formatters import JSONFormatter as JSONFormatter
from api_hour.logs.formatters import TextFormatter as TextFormatter
from api_hour.logs.handlers import NonBlockingHandler as NonBlockingHandler
