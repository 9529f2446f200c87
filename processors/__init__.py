"""What becomes of events: validated, priced, stored, judged, alerted on, told to people.

Each folder is one processor that runs alone or beside others: ``python -m processors cost``. None knows another; they
meet on the wire only.
"""
