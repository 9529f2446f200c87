"""A stand-in for the sidecar: leads the process group, answers at its door, has a child. Starts in a few milliseconds.

Writes one line to ``launches`` in its data directory for every start. With STUBBORN set it ignores TERM; with
LEAVES set it exits at once with that code; with DEAF set it opens no door.
"""

import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
from pathlib import Path


class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"{}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def leave(*_: object) -> None:
    os._exit(0)


def main() -> None:
    agent, door, data = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    home = data / "agents" / agent
    home.mkdir(parents=True, exist_ok=True)
    instance = json.loads(os.environ["AGENTOPS_INSTANCE"])["instance_id"]
    with (home / "launches").open("a") as file:
        file.write(f"{instance} {os.getpid()}\n")
    print("leader of", agent, "secret:", os.environ.get("SECRET", ""), flush=True)
    if "LEAVES" in os.environ:
        print("something is missing", flush=True)
        sys.exit(int(os.environ["LEAVES"]))
    if "STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, leave)
    child = subprocess.Popen(["sleep", "600"])
    (home / "sidecar.json").write_text(json.dumps({"pid": os.getpid(), "agent_pid": child.pid}))
    if "DEAF" in os.environ:
        signal.pause()
    # Not HTTPServer, which asks the network for its own name.
    socketserver.TCPServer.allow_reuse_address = True
    socketserver.TCPServer(("127.0.0.1", door), Door).serve_forever()


main()
