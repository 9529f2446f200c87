"""``python -m sidecar.gateway``."""

import sys

if __name__ == "__main__":
    from sidecar.gateway.cli import main

    sys.exit(main())
