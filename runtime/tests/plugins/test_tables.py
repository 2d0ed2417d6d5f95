"""A database without rows, for the tests of a project."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from api_hour import testing
from api_hour.plugins import aiopg, asyncpg

PLUGINS = {"aiopg": aiopg, "asyncpg": asyncpg}
TABLES = """
CREATE SCHEMA "of Bob";
CREATE TABLE schema_migrations (version text);
CREATE TABLE countries (code text PRIMARY KEY, number serial);
CREATE TABLE "of Bob"."a % table" (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    country text REFERENCES countries);
CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY, owner bigint
    REFERENCES "of Bob"."a % table") PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (100);
CREATE SEQUENCE numbers START 5;
INSERT INTO schema_migrations VALUES ('0001');
"""
ROWS = """
INSERT INTO countries (code) VALUES ('be'), ('nl');
INSERT INTO "of Bob"."a % table" (country) VALUES ('be');
INSERT INTO parts (owner) SELECT id FROM "of Bob"."a % table";
SELECT nextval('numbers');
"""
NEXT = """WITH made AS (INSERT INTO parts DEFAULT VALUES RETURNING id)
    SELECT id, nextval('numbers'), nextval('countries_number_seq') FROM made"""
COUNTS = """SELECT (SELECT count(*) FROM countries), (SELECT count(*) FROM "of Bob"."a % table"),
    (SELECT count(*) FROM parts), (SELECT count(*) FROM schema_migrations)"""


@pytest.fixture
def name(url: str) -> Iterator[str]:
    """Yield the URL of a database with tables and rows."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE filled")
            ask(url.replace("/postgres?", "/filled?"), TABLES + ROWS)
            yield url.replace("/postgres?", "/filled?")
            cursor.execute("DROP DATABASE filled WITH (FORCE)")


def ask(url: str, sql: str) -> Any:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


@pytest.mark.parametrize("plugin", PLUGINS)
async def test_every_test_begins_without_rows_and_with_the_first_number(
    name: str, plugin: str
) -> None:
    async with PLUGINS[plugin].create_pool(name) as pool:
        await testing.empty(pool)
        assert ask(name, COUNTS) == (0, 0, 0, 1)
        assert ask(name, NEXT) == (1, 5, 1)
        await testing.empty(pool)
        assert ask(name, NEXT) == (1, 5, 1)


async def test_what_the_migrations_filled_is_kept(name: str) -> None:
    async with aiopg.create_pool(name) as pool:
        await testing.empty(pool, keep=["countries"])
        assert ask(name, COUNTS) == (2, 0, 0, 1)
        assert ask(name, NEXT) == (1, 5, 3)
        with pytest.raises(psycopg2.Error, match=r'keep: there is no table "nothing""s"'):
            await testing.empty(pool, keep=['"nothing""s"'])
        with pytest.raises(psycopg2.Error, match=r'"a % table" refers to countries, so keep that'):
            await testing.empty(pool, keep=['"of Bob"."a % table"'])
        assert ask(name, COUNTS) == (2, 0, 1, 1)
