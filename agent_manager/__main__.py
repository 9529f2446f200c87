"""``python -m agent_manager``: the manager service."""

import sys

from agent_manager.app import main

if __name__ == "__main__":
    sys.exit(main())
