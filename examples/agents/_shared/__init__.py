"""What the sample agents share: telemetry over plain HTTP, a model client, a corpus, and an HTTP shell.

Needs aiohttp and the standard library. A service adds the parent folder to ``sys.path`` and imports ``_shared``.
"""
