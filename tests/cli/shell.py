"""Many commands in one process: what each prints and its exit code, without paying for the imports every time."""

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from agent_manager.cli.main import main


def carried_out(arguments: list[str]) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["agentops", *arguments]
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code: Any = main()
        except SystemExit as exiting:
            code = exiting.code
    return {"code": int(code or 0), "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.__stdout__.write(json.dumps(carried_out(json.loads(line))) + "\n")  # type: ignore[union-attr]
        sys.__stdout__.flush()  # type: ignore[union-attr]
