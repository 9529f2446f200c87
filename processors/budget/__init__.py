"""What is spent against which budget: ledger entries in, one event for each threshold reached, flags and commands at the limit.

``periods`` says where hours, days, weeks and months begin, ``metering`` counts in them or in a rolling window, ``books``
decides what follows, ``enforcing`` words it, ``recounting`` sums up what was spent before, ``keeping`` reads LEDGER and tells.
"""
