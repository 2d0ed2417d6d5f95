"""Answers simple requests sooner than aiohttp, and never differently."""

import logging
import re
from functools import cache

import aiohttp
from aiohttp import http_parser

TESTED = ((3, 14, 5), (3, 15))  # versions of aiohttp: from, and up to
logger = logging.getLogger(__name__)


@cache
def usable() -> bool:
    """Return whether the fast path knows this aiohttp; warn when it does not."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiohttp.__version__)[:3])
    compiled = http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy
    if compiled and TESTED[0] <= version < TESTED[1]:
        return True
    without = "" if compiled else " without its C parser"
    logger.warning("No fast path for aiohttp %s%s: its own is used", aiohttp.__version__, without)
    return False
