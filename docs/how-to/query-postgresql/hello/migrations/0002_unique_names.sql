-- migrate:up
ALTER TABLE records ADD CONSTRAINT records_name UNIQUE (name);

-- migrate:down
ALTER TABLE records DROP CONSTRAINT records_name;
