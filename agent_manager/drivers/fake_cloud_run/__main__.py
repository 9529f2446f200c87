"""``python -m agent_manager.drivers.fake_cloud_run``."""

import sys

from agent_manager.drivers.fake_cloud_run.app import main

if __name__ == "__main__":
    sys.exit(main())
