"""What SQL may do with the URL that is handed out, and older clusters, where it might do all."""

import shutil
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from api_hour.plugins import embedded
from runtime.tests.plugins.embedded.supervisor import (
    NO_SOCKETS,
    Supervisor,
    as_superuser,
    assert_sql_stays_inside,
    query,
)

# A cluster that the superuser has filled, which only an event trigger may have to do with later.
OLD = """CREATE SCHEMA extra
CREATE TABLE extra."a ""b" (id serial, other int GENERATED ALWAYS AS IDENTITY, name text UNIQUE)
INSERT INTO extra."a ""b" (name) VALUES ('kept')
CREATE TABLE parts (id int) PARTITION BY RANGE (id)
CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9)
CREATE STATISTICS extra.both ON id, name FROM extra."a ""b"
CREATE VIEW shown AS SELECT 1 AS number
CREATE MATERIALIZED VIEW stored AS SELECT 1 AS number
CREATE SEQUENCE numbers
CREATE TYPE mood AS ENUM ('good')
CREATE TYPE pair AS (a int, b int)
CREATE TYPE span AS RANGE (subtype = int)
CREATE DOMAIN positive AS int CHECK (VALUE > 0)
CREATE FUNCTION twice(int, text = 'x') RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'
CREATE PROCEDURE nothing() LANGUAGE sql AS ''
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int)
CREATE OPERATOR === (FUNCTION = int4eq, LEFTARG = int, RIGHTARG = int)
CREATE OPERATOR CLASS ints FOR TYPE int USING btree AS FUNCTION 1 btint4cmp(int, int)
CREATE COLLATION letters FROM "C"
CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)
CREATE FOREIGN DATA WRAPPER far
CREATE SERVER away FOREIGN DATA WRAPPER far
CREATE PUBLICATION news FOR TABLE parts
SELECT lo_from_bytea(0, 'large')
CREATE FUNCTION watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'
CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION watch()
CREATE DATABASE second
"""
LEFT = """SELECT string_agg(DISTINCT kind, ', ') FROM (
    SELECT 'class ' || relname, relowner, oid FROM pg_class WHERE relkind <> 't'
    UNION SELECT 'function ' || proname, proowner, oid FROM pg_proc
    UNION SELECT 'type ' || typname, typowner, oid FROM pg_type
    UNION SELECT 'schema ' || nspname, nspowner, oid FROM pg_namespace
    UNION SELECT 'operator ' || oprname, oprowner, oid FROM pg_operator
    UNION SELECT 'class ' || opcname, opcowner, oid FROM pg_opclass
    UNION SELECT 'family ' || opfname, opfowner, oid FROM pg_opfamily
    UNION SELECT 'collation ' || collname, collowner, oid FROM pg_collation
    UNION SELECT 'configuration ' || cfgname, cfgowner, oid FROM pg_ts_config
    UNION SELECT 'statistics ' || stxname, stxowner, oid FROM pg_statistic_ext
    UNION SELECT 'large object', lomowner, oid FROM pg_largeobject_metadata
    UNION SELECT 'publication ' || pubname, pubowner, oid FROM pg_publication
    UNION SELECT 'trigger ' || evtname, evtowner, oid FROM pg_event_trigger
    UNION SELECT 'wrapper ' || fdwname, fdwowner, oid FROM pg_foreign_data_wrapper
    UNION SELECT 'server ' || srvname, srvowner, oid FROM pg_foreign_server
    UNION SELECT 'database ' || datname, datdba, oid FROM pg_database WHERE NOT datistemplate
) AS all_of_them (kind, owner, oid) WHERE owner = 10 AND oid >= 16384 AND NOT EXISTS (
    SELECT FROM pg_depend WHERE objid = all_of_them.oid AND objsubid = 0 AND deptype = 'i')"""


def test_sql_reaches_no_program_no_file_and_no_other_role(data: Path) -> None:
    with embedded.postgresql(data) as server:
        assert_sql_stays_inside(server.url)


def test_the_role_owns_its_database_and_makes_others(data: Path) -> None:
    with embedded.postgresql(data) as server, closing(psycopg2.connect(server.url)) as other:
        query(server.url, "CREATE SCHEMA tests; CREATE TABLE tests.made AS SELECT 1 AS one")
        trusted = "SELECT 1 FROM pg_available_extension_versions WHERE name = 'citext' AND trusted"
        if query(server.url, trusted):
            query(server.url, "CREATE EXTENSION citext; CREATE TABLE tests.texts (text citext)")
        query(server.url, "DROP SCHEMA tests CASCADE; DROP SCHEMA public CASCADE")
        query(server.url, "CREATE SCHEMA public; CREATE TABLE public.made AS SELECT 1 AS one")
        assert query(server.url, f"SELECT pg_terminate_backend({other.info.backend_pid})")
        with closing(psycopg2.connect(server.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CREATE DATABASE tests")
                query(server.url.replace("/postgres?", "/tests?"), "CREATE TABLE made (id int)")
                cursor.execute("DROP DATABASE tests")


def test_a_cluster_whose_url_named_the_superuser_goes_on_with_the_role(
    data: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(data, tmp_path / ".data", ignore=NO_SOCKETS)
    code, _, errors = as_superuser(copy, OLD.replace("\n", ";\n\n"))
    assert code == 0, errors
    with Supervisor(copy) as supervisor:
        assert "parts" in query(supervisor.line(), LEFT)
    (copy / "credentials").rename(copy / "password")
    code, _, errors = as_superuser(copy, "SELECT 1")
    assert (code, errors) == (0, "Giving the databases of the superuser to the role api_hour ...\n")
    assert not (copy / "password").exists()
    with embedded.postgresql(copy) as server:
        assert query(server.url, LEFT) == "trigger watching, wrapper far"
        assert query(server.url, 'SELECT name FROM extra."a ""b"') == "kept"
        query(
            server.url, 'ALTER TABLE extra."a ""b" ADD more int; DROP TABLE parts; DROP TYPE pair'
        )
        query(server.url.replace("/postgres?", "/second?"), "CREATE SCHEMA own")
        assert_sql_stays_inside(server.url)


def test_the_superuser_needs_that_no_server_runs(data: Path) -> None:
    code, output, _ = as_superuser(data, "CREATE TABLE IF NOT EXISTS theirs AS SELECT 1 AS one;\n")
    assert code == 0
    code, output, _ = as_superuser(data, "SELECT current_user AS me;\nSELECT one FROM theirs")
    assert (code, 'me = "postgres"' in output, 'one = "1"' in output) == (0, True, True)
    code, _, errors = as_superuser(data, "SELECT no_such_name")
    assert code == 1
    assert errors.startswith("postgres failed:\n")
    assert 'column "no_such_name" does not exist' in errors
    with embedded.postgresql(data) as server:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            query(server.url, "SELECT one FROM theirs")
        code, _, errors = as_superuser(data, "SELECT 1")
        assert (code, "is in use by process" in errors) == (1, True)
