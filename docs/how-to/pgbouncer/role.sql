ALTER ROLE hello SET statement_timeout = '5s';
ALTER ROLE hello SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE hello SET client_connection_check_interval = '1s';
