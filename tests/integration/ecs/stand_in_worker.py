"""What a worker looks like from outside: /health on one port, something that listens on the other."""

import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path.partition("?")[0] == "/health" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class Mute(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(1)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host = os.environ["BIND_HOST"]
    if idle := float(os.environ.get("WORKER_IDLE_TIMEOUT_SECONDS", "0")):
        threading.Timer(idle, os._exit, [0]).start()
    if "CANNOT_WORK" in os.environ:
        sys.exit(3)
    time.sleep(float(os.environ.get("START_SECONDS", "0")))
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    threading.Thread(
        target=socketserver.ThreadingTCPServer((host, 50051), Mute).serve_forever, daemon=True
    ).start()
    ThreadingHTTPServer((host, 8080), Health).serve_forever()


main()
