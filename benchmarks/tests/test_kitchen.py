"""The expected answers are the rows of the database."""

import re
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extras import RealDictCursor

from api_hour.plugins import embedded
from benchmarks import contender, kitchen


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded.postgresql(tmp_path_factory.mktemp("postgresql"), own=True) as server:
        kitchen.create(server.url)
        kitchen.create(server.url)
        yield server.url


def statements(name: str) -> list[str]:
    """Return the statements of that name in the contenders' code, with $1 in psycopg2's form."""
    texts = [path.read_text() for path in contender.FOLDER.glob("*/app*.py")]
    found = [re.findall(rf'^{name} = ("""|")(.*?)\1', text, re.M | re.S) for text in texts]
    return [statement.replace("$1", "%s") for match in found for _, statement in match]


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [("AGENTS", (), kitchen.agents()), ("AGENT", (7,), [kitchen.agent(7)])],
)
def test_the_statements_of_a_contender_return_the_expected_answer(
    url: str, name: str, arguments: tuple[int, ...], rows: list[kitchen.Row]
) -> None:
    found = statements(name)
    assert len(found) >= 4
    connection = psycopg2.connect(url)
    with connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
        for statement in found:
            cursor.execute(statement, arguments)
            assert [dict(row) for row in cursor.fetchall()] == rows
    connection.close()


def test_half_of_the_agents_are_logged_in() -> None:
    logins = [row["extension"] for row in kitchen.agents()]
    assert len(logins) == 50
    assert logins.count(None) == 25
