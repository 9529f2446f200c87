-- Rows are no longer written twice: the sums say how far they go in each stream, and what was stored after that is read from
-- its own table. They are made anew from the rows there are.
CREATE TABLE folded (
    "stream" VARCHAR NOT NULL,
    "sequence" BIGINT NOT NULL
);
INSERT INTO folded VALUES ('EVENTS', 0), ('LEDGER', 0);
DELETE FROM rollups;
DROP TABLE rollup_facts;
