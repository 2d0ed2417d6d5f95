"""catalogue: pages lose nothing while rows come and go, and what is known is not sent again."""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg2

from examples.tests.asking import ask
from testkit.processes import Daemon

LISTEN = {"http": "tcp://127.0.0.1:0"}


def execute(database: str, statement: str, number: int) -> None:
    with closing(psycopg2.connect(database)) as connection, connection as db:
        db.cursor().execute(statement, [number])


def pages(daemon: Daemon, query: str) -> Iterator[list[tuple[int, int]]]:
    """Yield the prices and ids of each page."""
    after = ""
    while True:
        page = ask(daemon, f"GET /articles?category=book&{query}{after}").json
        yield [(article["cents"], article["id"]) for article in page["articles"]]
        if page["next"] is None:
            return
        after = f"&after={page['next']}"


def test_pages_lose_and_repeat_nothing_while_rows_come_and_go(
    serve: Callable[..., Daemon], database: str
) -> None:
    daemon = serve("how_to", "catalogue:Container", LISTEN, DATABASE_URL=database)
    (whole,) = pages(daemon, "limit=100")
    assert len(whole) == 100
    assert whole == sorted(whole)
    assert [len(page) for page in pages(daemon, "limit=30")] == [30, 30, 30, 10]
    found = []
    for page in pages(daemon, "limit=30&at_most=300"):
        found += page
        execute(database, "DELETE FROM articles WHERE id = %s", page[0][1])
    assert found == [(cents, number) for cents, number in whole if cents <= 300]
    for wrong in ("after=x", "after=W10=", "limit=101", "at_most=-1", "page=2"):
        assert ask(daemon, f"GET /articles?category=book&{wrong}").status == 422, wrong


def test_what_is_known_or_can_be_compressed_is_not_sent(
    serve: Callable[..., Daemon], database: str
) -> None:
    daemon = serve("how_to", "catalogue:Container", LISTEN, DATABASE_URL=database)
    first = ask(daemon, "GET /articles/8")
    again = ask(daemon, "GET /articles/8", If_None_Match=first.headers["ETag"])
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", 'W/"1"')
    execute(database, "UPDATE articles SET version = version + 1 WHERE id = %s", 8)
    changed = ask(daemon, "GET /articles/8", If_None_Match=first.headers["ETag"])
    assert (changed.status, changed.json["version"]) == (200, 2)

    path = "GET /articles?category=tool"
    plain, packed = ask(daemon, path), ask(daemon, path, Accept_Encoding="br, gzip")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed.body)) == plain.json
    assert len(packed.body) < len(plain.body) / 4
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert "Vary" not in ask(daemon, "GET /articles/8", Accept_Encoding="gzip").headers
