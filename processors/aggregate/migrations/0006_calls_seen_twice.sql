-- Who saw a call, and which entry stands for it where several did.
ALTER TABLE ledger ADD COLUMN "observed_by" VARCHAR;
ALTER TABLE ledger ADD COLUMN "trace_id" VARCHAR;
ALTER TABLE ledger ADD COLUMN "span_id" VARCHAR;
ALTER TABLE ledger ADD COLUMN "duplicate_of" VARCHAR;
ALTER TABLE ledger ADD COLUMN "differs" BOOLEAN;

-- What was taken back as charged twice no longer counts as a call, nor do its tokens. Where there is any such thing the sums are
-- made anew from the rows there are; else they are right already.
CREATE TEMP TABLE seen_twice AS SELECT count(*) > 0 AS any_of_it FROM ledger WHERE kind = 'reversal' AND reason = 'duplicate_call';
DELETE FROM rollups_hour WHERE (SELECT any_of_it FROM seen_twice);
DELETE FROM rollups_day WHERE (SELECT any_of_it FROM seen_twice);
DELETE FROM agents_hour WHERE (SELECT any_of_it FROM seen_twice);
DELETE FROM agents_day WHERE (SELECT any_of_it FROM seen_twice);
UPDATE folded SET sequence = 0 WHERE (SELECT any_of_it FROM seen_twice);
DROP TABLE seen_twice;
