"""``python -m sidecar``."""

import sys

if __name__ == "__main__":
    # Where rich is installed structlog loads it for its tracebacks; a sidecar pays 0.1 s and 4 MB for nothing.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from sidecar.cli import main

    sys.exit(main())
