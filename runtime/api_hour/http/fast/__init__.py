"""Answers simple requests sooner than aiohttp, and never differently.

Theory of operation
===================

aiohttp serves a request in three steps of the event loop. ``data_received`` parses it and wakes the
connection's task (``RequestHandler.start``). That task makes a request object, asks the dispatcher,
and starts a second task for the handler. That one runs the handler and writes the answer. For a
small JSON answer the waking and the making cost more than the handler.

The fast path answers inside ``data_received``. It obeys one rule:

    It may only be quicker, never different. What it does not know, it leaves to aiohttp.

So nothing here is a second implementation of HTTP: the parser, the dispatcher (asked at start), the
request and the response classes, and all error handling are aiohttp's. Whoever deletes this folder,
and the lines of ``http/server.py`` that import it, has the same server, only slower. A test sends
the same bytes to both and compares what comes back (``unit/http/fast/test_equality.py``); what this
project does differently on purpose is below both paths: in ``http/connection.py``,
``http/parser.py``, ``http/request_checks.py``, ``http/websocket.py`` and ``http/time_limits.py``.

Which request goes which way
----------------------------

Four ways, from quick to slow. Each begins in ``FastConnection._answer``.

1. **In place.** The handler returns in its first step, and ResponseWriter can render what it
   returned: the bytes go out before ``data_received`` returns. Requests that came together go out
   in one write.
2. **Finished in aiohttp.** The handler is done in its first step, but raised, or returned a
   response that takes more than a head and a body: a stream, a file, compression, a closing
   connection, HEAD. ``_finish_in_aiohttp`` runs aiohttp's ``_handle_request`` with the
   outcome as its handler, in the same call of ``data_received`` as far as it does not suspend.
3. **Handed over.** The handler suspends, or way 2 does. What is left of it goes on in a task.
4. **Left to aiohttp.** The request is queued for ``RequestHandler.start``, as if this folder did
   not exist: an incomplete body, ``Expect``, ``Transfer-Encoding``, an upgrade, an absolute URL,
   any version but HTTP/1.1, a Host that is not known to be good, a parse error, static files, a
   connection that is busy or does not read its answers.

Ways 1 to 3 are chosen by what happens, not by a guess: ``_answer`` makes no promise until it has
seen the first step. It returns None, for way 4, before anything has happened to the request.

States of a connection
----------------------

aiohttp's own attributes are the state; a second copy could disagree.

* idle: ``_waiter`` is a future, for which ``start()`` waits. Only then does ``data_received`` take
  the fast path. ``FastConnection.start`` makes the first ``_waiter`` early, because the first
  request often comes with the connection.
* busy in aiohttp: ``_waiter`` is None; what arrives is queued.
* busy in a pooled task (way 3): the same for everyone who looks, as ``_waiter`` and
  ``_task_handler`` are taken away (``_parked``) and the pooled task stands in. ``_become_idle``
  puts them back, and wakes ``start()`` if requests were queued in between.
* closing: ``_close`` or ``_force_close``; nothing is begun any more.

Why a pooled task, and whose identity
-------------------------------------

A handler may call ``current_task()``, ``asyncio.timeout()``, or a library that does. So it needs a
real task from its first step on. ``task_pool.py`` keeps some that wait. The handler takes its first
step with the identity of one of them (``_enter_task`` and ``_leave_task``, as the event loop does),
in a copy of the context, so that context variables never leak from one request into the next. If it
suspends, it keeps that very task to its end: no handler ever sees its task change. A task that was
cancelled leaves the pool, so a late ``cancel()`` never hits another request.

The task is on loan only while no other is current: called inside a task (``_enter_task`` raises
RuntimeError), the request is left to aiohttp. With no task free it is left to aiohttp, too, and the
pool grows.

What ends a request
-------------------

Whoever serves it owes the same end, whichever way it took: the answer is counted and logged once;
the payload refuses further reads (``_PAYLOAD_ACCESS_ERROR``); the request's reference to its task
is cut, so that nothing outlives it; the keep-alive time starts again, or the connection closes. In
place, ``_answer`` does this after rendering; otherwise ``_handle_as_aiohttp`` does, in a
``finally``. aiohttp itself ends a request of way 4. Each request is counted once, when it begins.

A drain needs nothing here: while it lasts, ResponseWriter declines every response, and aiohttp's
``keep_alive`` adds ``Connection: close``.

What is pinned of aiohttp
-------------------------

Its internals, which are nobody's promise. ``unit/http/test_pinned.py`` lists every one, and fails
for one that is gone; those that ``http/`` itself uses hold with ``fast: false``, too. Beside the
names: ``HttpRequestParser`` shows the garbage collector the messages that it holds, and may be
initialized again; its ``LineTooLong`` has a ``bytearray`` for the request target only. ``TESTED``
is the range of versions in which all this was read and tested. With any other, or without the
parser in C, ``usable()`` logs one warning, and aiohttp serves.
"""

import logging
import re
from functools import cache

import aiohttp

from api_hour.http.parser import COMPILED

TESTED = ((3, 14, 5), (3, 15))  # versions of aiohttp: from, and up to
logger = logging.getLogger(__name__)


@cache
def usable() -> bool:
    """Return whether the fast path knows this aiohttp; warn when it does not."""
    version = tuple(int(part) for part in re.findall(r"\d+", aiohttp.__version__)[:3])
    if COMPILED and TESTED[0] <= version < TESTED[1]:
        return True
    without = "" if COMPILED else " without its C parser"
    logger.warning("No fast path for aiohttp %s%s: its own is used", aiohttp.__version__, without)
    return False
