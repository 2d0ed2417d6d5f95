"""The running daemon against the rules of the TechEmpower Framework Benchmarks.

https://github.com/TechEmpower/FrameworkBenchmarks/wiki/Project-Information-Framework-Tests-Overview
"""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.techempower.tests.conftest import Client, Database
from testkit.waiting import TIMEOUT, until

CONFIGURATION = Path(__file__).parent.parent / "benchmark_config.json"
MEDIA = {
    "/json": "application/json; charset=utf-8",
    "/plaintext": "text/plain",
    "/db": "application/json; charset=utf-8",
    "/queries?queries=2": "application/json; charset=utf-8",
    "/fortunes": "text/html; charset=utf-8",
    "/updates?queries=2": "application/json; charset=utf-8",
    "/cached-queries?count=2": "application/json; charset=utf-8",
}
SEVERAL = ("/queries?queries=", "/updates?queries=", "/cached-queries?count=")
ROWS = range(1, 10_001)
FORTUNES = [  # in the required order: sorted by their text
    (11, '<script>alert("This should not be displayed in a browser alert box.");</script>'),
    (4, "A bad random number generator: 1, 1, 1, 1, 1, 4.33e+67, 1, 1, 1"),
    (5, "A computer program does what you tell it to do, not what you want it to do."),
    (2, "A computer scientist is someone who fixes things that aren't broken."),
    (8, "A list is only as strong as its weakest link. — Donald Knuth"),
    (0, "Additional fortune added at request time."),
    (3, "After enough decimal places, nobody gives a damn."),
    (7, "Any program that runs right is obsolete."),
    (10, "Computers make very fast, very accurate mistakes."),
    (6, "Emacs is a nice operating system, but I prefer UNIX. — Tom Christaensen"),
    (9, "Feature: A bug with seniority."),
    (1, "fortune: No such file or directory"),
    (12, "フレームワークのベンチマーク"),
]
COUNTED = """
    CREATE SEQUENCE statements;
    ALTER TABLE world RENAME TO rows_of_world;
    CREATE VIEW world AS
        WITH counter AS MATERIALIZED (SELECT nextval('statements') AS number)
        SELECT id, randomnumber FROM rows_of_world, counter WHERE number > 0;
    CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE rows_of_world SET randomnumber = NEW.randomnumber WHERE id = NEW.id;
        RETURN NEW;
    END $$;
    CREATE TRIGGER change INSTEAD OF UPDATE ON world FOR EACH ROW EXECUTE FUNCTION change();
"""
NOT_COUNTED = """
    DROP VIEW world;
    DROP FUNCTION change;
    DROP SEQUENCE statements;
    ALTER TABLE rows_of_world RENAME TO world;
"""


@pytest.mark.parametrize("path", MEDIA)
def test_every_answer_has_the_required_headers(client: Client, path: str) -> None:
    started = time.time()
    status, headers, body = client.get(path)
    assert status == 200
    assert headers["Server"]
    assert headers["Content-Type"] == MEDIA[path]
    assert int(headers["Content-Length"]) == len(body) > 0
    assert "Content-Encoding" not in headers
    date = parsedate_to_datetime(headers["Date"]).timestamp()
    assert started - 3 < date < time.time() + 1


def test_the_date_is_not_frozen(client: Client) -> None:
    _, headers, _ = client.get("/plaintext")
    first = headers["Date"]
    until(lambda: client.get("/plaintext")[1]["Date"] != first, "the date is still the same")


def test_json_is_one_object_with_one_message(client: Client) -> None:
    _, _, body = client.get("/json")
    assert json.loads(body) == {"message": "Hello, World!"}
    assert len(body) <= 28


def test_plaintext_answers_pipelined_requests_in_order(client: Client) -> None:
    depth = 16
    request = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.port), TIMEOUT) as sock:
        sock.sendall(request * depth + b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}"):
            received += sock.recv(65536)
    answers = received.split(b"HTTP/1.1 200 OK\r\n")[1:]
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [b"Hello, World!"] * depth + [b'{"message":"Hello, World!"}']


def test_db_returns_a_row_of_the_table(client: Client, database: Database) -> None:
    worlds = database.worlds()
    keys = set()
    for _ in range(10):
        world = client.json("/db")
        assert list(world) == ["id", "randomNumber"]
        assert world["randomNumber"] == worlds[world["id"]]
        keys.add(world["id"])
    assert len(keys) > 5  # at random


@pytest.mark.parametrize("path", SEVERAL)
@pytest.mark.parametrize(
    ("asked", "given"),
    [(str(number), number) for number in (1, 2, 20, 500)]
    + [(more, 500) for more in ("501", "999999")]
    + [(wrong, 1) for wrong in ("0", "-1", "foo", "", "1.5", "9" * 5000)],
)
def test_the_number_of_rows_is_limited_to_1_to_500(
    client: Client, path: str, asked: str, given: int
) -> None:
    worlds = client.json(path + asked)
    assert len(worlds) == given
    for world in worlds:
        assert list(world) == ["id", "randomNumber"]
        assert world["id"] in ROWS
        assert world["randomNumber"] in ROWS


@pytest.mark.parametrize("path", SEVERAL)
def test_without_a_number_there_is_one_row_in_a_list(client: Client, path: str) -> None:
    worlds = client.json(path.partition("?")[0])
    assert isinstance(worlds, list)
    assert len(worlds) == 1


def test_queries_return_rows_of_the_table(client: Client, database: Database) -> None:
    worlds = database.worlds()
    found = client.json("/queries?queries=500")
    assert len({world["id"] for world in found}) == 500
    assert all(world["randomNumber"] == worlds[world["id"]] for world in found)


@pytest.mark.parametrize(("path", "statements"), [("/queries", 500), ("/updates", 1000)])
def test_every_row_is_read_by_a_statement_of_its_own(
    client: Client, database: Database, path: str, statements: int
) -> None:
    database.rows(COUNTED)
    try:
        client.json(f"{path}?queries=500")
        ((counted,),) = database.rows("SELECT last_value FROM statements")
    finally:
        database.rows(NOT_COUNTED)
    assert counted == statements


def test_updates_have_distinct_ids_and_are_written(client: Client, database: Database) -> None:
    before = database.worlds()
    updated = {world["id"]: world["randomNumber"] for world in client.json("/updates?queries=500")}
    after = database.worlds()
    assert len(updated) == 500
    assert {key: after[key] for key in updated} == updated
    assert {key: after[key] for key in after if key not in updated} == {
        key: before[key] for key in before if key not in updated
    }
    assert sum(after[key] != before[key] for key in updated) > 475


def test_concurrent_updates_do_not_deadlock(client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.get("/updates?queries=500")[0], range(40)))
    assert answers == [200] * 40


def test_cached_queries_come_from_the_cache(client: Client, database: Database) -> None:
    path = "/cached-queries?count=500"
    cached = {world["id"]: world["randomNumber"] for world in client.json(path)}
    assert len(cached) == 500
    database.rows("UPDATE world SET randomnumber = randomnumber % 10000 + 1")
    again = [world for _ in range(10) for world in client.json(path) if world["id"] in cached]
    assert len(again) > 20
    assert all(world["randomNumber"] == cached[world["id"]] for world in again)


def test_rows_that_the_cache_lacks_come_from_the_table(client: Client, database: Database) -> None:
    database.rows("UPDATE world SET randomnumber = 7777")
    try:
        found = client.json("/cached-queries?count=500")
    finally:
        database.rows("UPDATE world SET randomnumber = 1 + id * 7 % 10000")
    assert sum(world["randomNumber"] == 7777 for world in found) > 100


class Table(HTMLParser):
    """The cells of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] in (["td"], ["th"]) and data.strip():
            self.cells[-1] += data


def _page(client: Client) -> tuple[str, list[tuple[int, str]]]:
    _, _, body = client.get("/fortunes")
    page = body.decode()
    cells = Table(page).cells
    assert cells[:2] == ["id", "message"]
    return page, [(int(key), text) for key, text in zip(cells[2::2], cells[3::2], strict=True)]


def test_fortunes_are_sorted_with_the_added_one_and_escaped(client: Client) -> None:
    page, fortunes = _page(client)
    assert fortunes == FORTUNES
    assert page.startswith("<!DOCTYPE html>")
    assert "<title>Fortunes</title>" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert set(Table(page).tags) == {"html", "head", "title", "body", "table", "tr", "th", "td"}


def test_the_page_shows_the_current_rows_of_the_table(client: Client, database: Database) -> None:
    assert (0,) not in database.rows("SELECT id FROM fortune")
    database.rows("INSERT INTO fortune VALUES (13, 'B & <b>')")
    try:
        page, fortunes = _page(client)
    finally:
        database.rows("DELETE FROM fortune WHERE id = 13")
    assert fortunes[8] == (13, "B & <b>")
    assert len(fortunes) == len(FORTUNES) + 1
    assert "B &amp; &lt;b&gt;" in page


def test_the_urls_in_the_configuration_are_served(client: Client) -> None:
    (tests,) = json.loads(CONFIGURATION.read_text())["tests"]
    urls = [url for name, url in tests["default"].items() if name.endswith("_url")]
    assert len(urls) == len(MEDIA)
    for url in urls:
        status, _, _ = client.get(url + "2" if url.endswith("=") else url)
        assert status == 200, url
