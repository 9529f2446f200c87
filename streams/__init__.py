"""Where things are said: subjects, streams, connections, ordered reading, covered writing, shared buckets, dead letters.

The only folder that knows NATS by name. It interprets no event; it imports ``schemas`` alone.
"""
