import sys

from agent_manager.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
