"""What may be said on the wire: events, commands, alerts, ledger entries, queries, and the values of shared buckets.

Pure: no network, no files, no clock. Everything else imports this; this imports nothing of the project.
"""
