"""Telling people: each change of an alert once to each channel, in order, however long a channel may be away.

``delivery`` decides what follows from an attempt, ``channels`` make the attempt, ``app`` gives each channel a durable
consumer of its own on ALERTS, so that a dead webhook holds up nobody else and loses nothing.
"""
