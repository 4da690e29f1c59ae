"""The shop's own service, which the workflow asks over HTTP: customers, parcels and photographs, on a loopback port."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONNECT_S = 0.08
THINK_S = 0.02
ORDERS = {
    "A-17": {"customer": "Ada", "parcel": "p-900", "paid_cents": 12_900},
    "B-42": {"customer": "Grace", "parcel": "p-901", "paid_cents": 3_400},
}
PARCELS = {
    "p-900": {"state": "delivered", "sent_g": 2_100, "arrived_g": 1_380},
    "p-901": {"state": "delivered", "sent_g": 800, "arrived_g": 800},
}
PHOTOS = {"A-17": {"seal": "torn", "dents": 3}, "B-42": {"seal": "whole", "dents": 0}}
TABLES: dict[str, dict[str, dict[str, Any]]] = {"orders": ORDERS, "parcels": PARCELS, "photos": PHOTOS}


class Shop(BaseHTTPRequestHandler):
    """Answers `GET /orders/…`, `/parcels/…` and `/photos/…`; it is far away, so that connecting takes longest."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        """Take a connection."""
        time.sleep(CONNECT_S)
        super().setup()

    def do_GET(self) -> None:
        """Answer one request."""
        time.sleep(THINK_S)
        table, _, key = self.path.strip("/").partition("/")
        row = TABLES.get(table, {}).get(key)
        body = json.dumps(row or {"error": f"nothing at {self.path}"}).encode()
        self.send_response(200 if row else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 0), Shop)
    print(server.server_address[1], flush=True)
    server.serve_forever()
