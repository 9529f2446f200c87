"""The named questions: each module turns validated parameters into SQL. Pure: now is an argument."""
