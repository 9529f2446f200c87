"""The REST API: agents read, commanded and registered over HTTP, with API keys or an identity provider's tokens.

It keeps nothing and decides nothing about agents: commands go to the manager, questions to the warehouse, over NATS like everybody's.
"""
