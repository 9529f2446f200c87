"""Which rules are broken: measurements in, one message for each change of an alert's state out.

``rules`` says what is watched, ``readings`` turns messages into measurements, ``series`` is the state of one rule for one
agent, tenant or stream, ``board`` keeps all of them, ``app`` reads EVENTS, LEDGER and buckets and writes ALERTS.
"""
