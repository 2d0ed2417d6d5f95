"""The page on which people read the document of an application, and try its endpoints out.

It is Swagger UI, from the files of the package offapi. Everything comes from this daemon, and no
part of the page may load anything else, run inline code, or be framed: see ``POLICY``.
"""

import functools
import hashlib
import importlib.util
import posixpath
from collections.abc import Callable
from html import escape
from pathlib import Path

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from api_hour.exceptions import INSTALL, ConfigError
from api_hour.http.responses import HTML, Encoded

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # that is: ask whether the ETag is still the same
}
SCRIPT, STYLE = "text/javascript; charset=utf-8", "text/css; charset=utf-8"
PACKAGE = "offapi"
OURS = Path(__file__).with_suffix(".js")

# Every address is relative to the page's own, because a proxy may have cut off a prefix.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{name}/swagger.css">
</head>
<body>
<main id="page"></main>
<noscript>This page needs JavaScript. The document: <a href="{document}">{document}</a></noscript>
<script src="{name}/swagger.js"></script>
<script src="{name}/page.js" data-document="{document}" data-root="{root}"></script>
</body>
</html>
"""


def document_endpoint(make: Callable[[], bytes]) -> Handler:
    """Return a handler that answers with the document; one that a client has is not sent again."""

    @functools.cache
    def made() -> tuple[bytes, str]:
        body = make()
        return body, hashlib.sha256(body).hexdigest()[:32]

    async def show_document(request: web.Request) -> web.StreamResponse:
        body, etag = made()
        headers = {hdrs.CACHE_CONTROL: "no-cache", hdrs.ETAG: f'"{etag}"'}
        if any(known.value in (etag, "*") for known in request.if_none_match or ()):
            return web.Response(status=304, headers=headers)
        return Encoded(body, headers=headers)

    return show_document


def add_page(app: web.Application, title: str, document: str, *, path: str = "/docs") -> None:
    """Serve the page at ``path``, for the document at the path ``document``, and its files below.

    No file is opened before it is asked for. Raises ConfigError if offapi is not installed.
    """
    folder = _folder()
    here = posixpath.dirname(path)
    text = PAGE.format(
        title=escape(title),
        name=escape(posixpath.basename(path)),
        document=escape(posixpath.relpath(document, here)),
        root=escape(posixpath.relpath("/", here)),
    )

    async def show_page(request: web.Request) -> web.StreamResponse:
        return HTML(text, headers=HEADERS)

    app.router.add_get(path, show_page)
    app.router.add_get(f"{path}/page.js", _giving(OURS, SCRIPT))
    app.router.add_get(f"{path}/swagger.js", _giving(folder / "swagger_bundle.js", SCRIPT))
    app.router.add_get(f"{path}/swagger.css", _giving(folder / "swagger_style.css", STYLE))


def _folder() -> Path:
    """Return the folder of the package's files; to import it would read all of them."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ConfigError(f"the page of the document needs {PACKAGE}: {INSTALL['openapi']}")
    return Path(found.submodule_search_locations[0])


def _giving(file: Path, kind: str) -> Handler:
    headers = {**HEADERS, hdrs.CONTENT_TYPE: kind}

    async def give_file(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(file, headers=headers)

    return give_file
