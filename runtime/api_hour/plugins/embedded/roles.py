"""What SQL may do: the role of the URL, and the superuser who makes it.

A superuser's SQL runs programs and writes files, with the rights of the server's process. So the
URL names the role ``api_hour``, which owns its database and everything in it and may create other
databases, but no roles. The superuser, ``postgres``, has no password and thus cannot log in; a
session without a server (``postgres --single``) is the only way to be it.

Such a session makes the role whenever ``credentials`` is missing: after initdb, or in a cluster of
the days when the URL named the superuser, whose databases and their contents go to the role.
"""

NAME = "api_hour"
SUPERUSER_SETTINGS = {
    "exit_on_error": "on",
    "log_min_error_statement": "panic",  # statements with a password do not get into the log
    "log_checkpoints": "off",
}
# Sets the password, and lists the databases. Names mean PostgreSQL's own objects, here and below.
CREATE = """SET search_path = pg_catalog;

DO $$
DECLARE name text; number oid;
BEGIN
    -- Without a server, new objects get numbers below 16384, as if initdb had made them.
    LOOP
        number := lo_create(0);
        PERFORM lo_unlink(number);
        EXIT WHEN number >= 16384;
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'api_hour') THEN
        CREATE ROLE api_hour;
    END IF;
    ALTER ROLE api_hour LOGIN CREATEDB NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS
        PASSWORD '<password>';
    ALTER ROLE postgres PASSWORD NULL;
    FOR name IN SELECT datname FROM pg_database WHERE datdba = 10 AND NOT datistemplate LOOP
        EXECUTE format('ALTER DATABASE %I OWNER TO api_hour', name);
    END LOOP;
    EXECUTE format('COPY (VALUES (''local all all scram-sha-256'')) TO %L',
        current_setting('hba_file'));
END $$;

SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"""
# Gives the role everything in one database that the superuser (10) owns and initdb (below 16384)
# has not made, but for the parts of extensions (e) and what goes with another object (i). REASSIGN
# OWNED refuses that superuser. What no other role may own, such as an event trigger, stays.
GIVE_OBJECTS = """SET search_path = pg_catalog;

DO $$
DECLARE catalog record; object record;
BEGIN
    FOR catalog IN
        SELECT relname AS name, attname AS owner, replace(relname, '_metadata', '') AS class
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared
            AND attname ~ 'owner$' AND atttypid = 'oid'::regtype
    LOOP
        FOR object IN EXECUTE format(
            'SELECT replace(found.type, ''statistics object'', ''statistics'') AS type, identity
            FROM %1$I AS entry, pg_identify_object(%3$L::regclass, entry.oid, 0) AS found
            WHERE entry.%2$I = 10
                AND (entry.oid >= 16384 OR (found.type, identity) = (''schema'', ''public''))
                AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = %3$L::regclass
                    AND objid = entry.oid AND objsubid = 0 AND deptype IN (''e'', ''i''))',
            catalog.name, catalog.owner, catalog.class)
        LOOP
            BEGIN
                PERFORM set_config('exit_on_error', 'off', false);
                EXECUTE format('ALTER %s %s OWNER TO api_hour', object.type, object.identity);
            EXCEPTION WHEN OTHERS THEN
                RAISE LOG 'still of postgres: % % (%)', object.type, object.identity, SQLERRM;
            END;
            PERFORM set_config('exit_on_error', 'on', false);
        END LOOP;
    END LOOP;
END $$"""
