"""Our own scripts and styles, served under a name made of their content, so that a browser may keep them for ever."""

import hashlib
from pathlib import Path
from typing import Final

DIRECTORY: Final = Path(__file__).parent.parent / "assets"


def version() -> str:
    """A short hash over every asset: changes when one of them does."""
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(DIRECTORY.iterdir()):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def address() -> str:
    """Where the page finds them: ``/assets/<version>``."""
    return f"/assets/{version()}"
