"""The command line ``agentops``: starts the whole system, and asks, tells and looks on behalf of a person or a script.

``commands/`` is what can be typed; it imports nothing heavy until a command runs, so that ``--help`` and completion are quick.
"""
