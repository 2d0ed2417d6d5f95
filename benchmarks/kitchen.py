"""The kitchen table: agents of a call centre in PostgreSQL, and which of them are logged in.

Every contender reads the same rows; the right answers are computed here, without SQL.
"""

import psycopg2

AGENTS = 50  # rows; every second one is logged in

TABLES = """
    DROP TABLE IF EXISTS agent_login_status, agent_features;
    CREATE TABLE agent_features (
        id integer PRIMARY KEY,
        number text NOT NULL UNIQUE,
        first_name text NOT NULL,
        last_name text NOT NULL
    );
    CREATE TABLE agent_login_status (
        agent_id integer PRIMARY KEY REFERENCES agent_features,
        extension text NOT NULL UNIQUE,
        context text NOT NULL,
        state_interface text NOT NULL
    );
"""
Row = dict[str, int | str | None]


def agent(number: int) -> Row:
    """Return the agent with that id; ids start at 1."""
    return {
        "id": number,
        "number": str(300 + number),
        "first_name": f"First {number}",
        "last_name": f"Last {number}",
    }


def agents() -> list[Row]:
    """Return all agents by id, with the columns of the login (None if there is none)."""
    return [agent(number) | _login(number) for number in range(1, AGENTS + 1)]


def _login(number: int) -> Row:
    if number % 2:
        return {"extension": None, "context": None, "state_interface": None}
    return {
        "extension": str(1000 + number),
        "context": "default",
        "state_interface": f"Local/{1000 + number}@default",
    }


def create(url: str) -> None:
    """Create and fill the tables in the database at ``url``; drop existing ones."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(TABLES)
            for row in agents():
                _insert(cursor, row)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE agent_features, agent_login_status")
    finally:
        connection.close()


def _insert(cursor: "psycopg2.extensions.cursor", row: Row) -> None:
    features = (
        "INSERT INTO agent_features VALUES (%(id)s, %(number)s, %(first_name)s, %(last_name)s)"
    )
    status = (
        "INSERT INTO agent_login_status VALUES"
        " (%(id)s, %(extension)s, %(context)s, %(state_interface)s)"
    )
    cursor.execute(features, row)
    if row["extension"] is not None:
        cursor.execute(status, row)
