"""A database as the migrations left it, for each test.

A transaction that the test rolls back would not do: a service that commits, or sees a conflict,
does so on connections of its own. A copy of the database for each test (CREATE DATABASE with a
TEMPLATE) would be the most exact, and takes a tenth of a second and more. So the rows are
removed, and only where there are some, since each TRUNCATE writes a new file.
"""

from collections.abc import Iterable
from typing import Any, Protocol

MIGRATIONS = "schema_migrations"  # where dbmate keeps what it has applied

# Without a percent sign: the placeholders of a driver may begin with one.
EMPTY = """
DO $empty$
DECLARE
    names text[] := <names>;
    kept oid[];
    found record;
    has_rows boolean;
    filled text[];
BEGIN
    FOR found IN SELECT name FROM unnest(names) AS name WHERE to_regclass(name) IS NULL LOOP
        RAISE EXCEPTION USING MESSAGE = 'keep: there is no table ' || found.name;
    END LOOP;
    names := array_append(names, '<migrations>'); -- if there is such a table
    kept := ARRAY(SELECT to_regclass(name)::oid FROM unnest(names) AS name
                  WHERE to_regclass(name) IS NOT NULL);
    FOR found IN SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent
                 FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (kept)
                 AND confrelid <> ALL (kept) LOOP
        RAISE EXCEPTION USING MESSAGE =
            'keep: ' || found.child || ' refers to ' || found.parent || ', so keep that, too';
    END LOOP;
    FOR found IN SELECT pg_class.oid, pg_class.oid::regclass::text AS name
                 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE relkind = 'r' AND pg_class.oid <> ALL (kept)
                 AND left(nspname, 3) <> 'pg_' AND nspname <> 'information_schema'
                 AND NOT EXISTS (SELECT FROM pg_depend -- of an extension
                                 WHERE classid = 'pg_class'::regclass
                                 AND objid = pg_class.oid AND deptype = 'e') LOOP
        EXECUTE 'SELECT EXISTS (SELECT FROM ONLY ' || found.name || ')' INTO has_rows;
        IF has_rows THEN
            filled := filled || found.name;
        END IF;
    END LOOP;
    IF filled IS NOT NULL THEN
        EXECUTE 'TRUNCATE ' || array_to_string(filled, ', ') || ' CASCADE';
    END IF;
    -- Of rows that were rolled back, too.
    PERFORM setval(seqrelid, seqstart, false)
    FROM pg_sequence JOIN pg_class ON pg_class.oid = seqrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE left(nspname, 3) <> 'pg_' AND pg_sequence_last_value(seqrelid) IS NOT NULL
    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass
                    AND objid = seqrelid
                    AND (refobjid = ANY (kept) OR deptype = 'e'));
END $empty$
"""


class Pool(Protocol):
    """The pool of any of the plugins."""

    async def execute(self, statement: str, /, *arguments: Any) -> Any:
        """Run a statement by itself."""


async def empty(pool: Pool, *, keep: Iterable[str] = ()) -> None:
    """Remove all rows of the database, and let identities begin again.

    ``keep`` names the tables whose rows stay, with a schema where it is not ``public``: those that
    the migrations fill. ``schema_migrations`` is always kept. The database's error says so if such
    a table does not exist, or if it refers to one that would be emptied.
    """
    names = ", ".join("'" + name.replace("'", "''") + "'" for name in keep)
    statement = EMPTY.replace("<migrations>", MIGRATIONS)
    await pool.execute(statement.replace("<names>", f"ARRAY[{names}]::text[]"))
