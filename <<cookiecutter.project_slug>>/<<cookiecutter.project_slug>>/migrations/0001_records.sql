-- migrate:up
CREATE TABLE records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE tags (
    record_id bigint NOT NULL REFERENCES records ON DELETE CASCADE,
    tag text COLLATE "C" NOT NULL,
    PRIMARY KEY (record_id, tag)
);
CREATE INDEX tags_tag ON tags (tag, record_id);

-- migrate:down
DROP TABLE tags;
DROP TABLE records;
