-- What a fault tells the clients of a model to wait.
ALTER TABLE faults ADD COLUMN "retry_after_s" DOUBLE;
