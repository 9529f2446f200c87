"""``python -m agent_manager.api``."""

import sys

if __name__ == "__main__":
    from agent_manager.api.cli import main

    sys.exit(main())
