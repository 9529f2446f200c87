"""What is spent against which budget: ledger entries in, one event for each threshold reached, flags and commands at the limit.

``periods`` says where hours, days, weeks and months begin, ``books`` counts in them or in a rolling window, ``judging`` says
what that reaches, ``gaps`` and ``recounting`` sum up what was spent before, ``enforcing`` words what follows. ``keeping``
reads LEDGER (``following``) and the definitions (``defining``), ``acting`` writes and tells.
"""
