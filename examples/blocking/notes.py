"""Notes in SQLite, with plain (blocking) functions: ``api_hour notes:Container`` in this folder.

Try it with ``curl --json '{"text": "Buy milk"}' http://127.0.0.1:8000/notes``, then
``curl http://127.0.0.1:8000/notes``.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import api_hour
import msgspec
from aiohttp import web

FILE = web.AppKey("FILE", str)
LOCK_TIMEOUT = 5.0  # seconds to wait for other writers: all workers write into one file


class Note(msgspec.Struct, forbid_unknown_fields=True):
    text: str


@api_hour.threaded
def create(request: web.Request) -> web.Response:
    # The event loop reads the body; this thread waits for it.
    note = api_hour.from_thread(api_hour.read_json(request, Note))
    with notes(request.app[FILE]) as db:
        number = db.execute("INSERT INTO notes (text) VALUES (?)", [note.text]).lastrowid
    return api_hour.JSON({"id": number, "text": note.text}, status=201)


@api_hour.threaded
def show(request: web.Request) -> web.Response:
    with notes(request.app[FILE]) as db:
        rows = db.execute("SELECT id, text FROM notes ORDER BY id").fetchall()
    return api_hour.JSON([{"id": number, "text": text} for number, text in rows])


@contextmanager
def notes(file: str) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction: a connection must stay in the thread that opened it."""
    with closing(sqlite3.connect(file, timeout=LOCK_TIMEOUT)) as db, db:
        yield db


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str


class Container(api_hour.Container):
    settings = Settings

    @asynccontextmanager
    async def engines(self) -> AsyncIterator[None]:
        with notes(self.config.file) as db:
            # With a write-ahead log, readers and writers do not wait for each other.
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")
        yield

    def servers(self) -> dict[str, api_hour.Server]:
        app = web.Application(middlewares=[api_hour.json_errors])
        app[FILE] = self.config.file
        app.add_routes([web.get("/notes", show), web.post("/notes", create)])
        return {"http": api_hour.HTTPServer(app)}
