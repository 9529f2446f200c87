"""Events, ledger and alerts become rows in DuckDB, each once; anyone may ask ``query.<name>`` about them.

The only folder that opens DuckDB. ``columns`` says which field goes into which column, ``reading`` turns messages into
frames, ``rollups`` sums them up, ``warehouse`` stores all of it with the offsets in one transaction, ``queries`` asks.
"""
