"""Making agents well again: which verdicts count, how long to wait between restarts, when to give up, and the record of it."""
