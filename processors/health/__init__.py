"""How each agent is: heartbeats, starts and stops in, one verdict an agent out.

``judging`` decides on one event or one silence, ``attention`` when silence may be judged at all, ``fleet`` keeps every
agent's state, ``app`` reads EVENTS, writes the bucket ``observations`` and publishes ``agent.status_changed``.
"""
