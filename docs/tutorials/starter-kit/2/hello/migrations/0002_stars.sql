-- migrate:up
ALTER TABLE records ADD stars integer NOT NULL DEFAULT 0;

-- migrate:down
ALTER TABLE records DROP stars;
