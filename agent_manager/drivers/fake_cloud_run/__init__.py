"""A stand-in for Cloud Run's Admin API v2: Google's own clients talk to it, over the wire, without an account.

It keeps resources, revisions, operations and shares of traffic in memory and runs no container.
"""
