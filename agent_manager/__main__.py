"""``python -m agent_manager``: the manager service."""

import sys

if __name__ == "__main__":
    # Where rich is installed structlog loads it for its tracebacks; a service pays 0.1 s and 4 MB for nothing.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
    from agent_manager.app import main
    from service.leaving import leave

    leave(main())
