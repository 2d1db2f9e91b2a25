"""Servers for HTTP, DNS and TLS in one process, and a client that asks each of them a number of times.

    classes.py serve ADDRESS CERTIFICATE KEY
    classes.py ask ADDRESS COUNT
"""

import http.server
import socket
import ssl
import struct
import sys
import threading
import urllib.request

NAME = "www.google.com"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = b"a page\n" * 20
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_):
        pass


def serve_dns(server):
    while True:
        query, client = server.recvfrom(512)
        # The query with an answer: one A record, whose name is that of the question.
        header = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
        answer = struct.pack(">HHHIH4B", 0xC00C, 1, 1, 60, 4, 192, 0, 2, 9)
        server.sendto(header + query[12:] + answer, client)


def serve(address, certificate, key):
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind((address, 53))
    plain = http.server.ThreadingHTTPServer((address, 80), Page)
    secure = http.server.ThreadingHTTPServer((address, 443), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    for work in (lambda: serve_dns(dns), plain.serve_forever, secure.serve_forever):
        threading.Thread(target=work, daemon=True).start()
    print("ready", file=sys.stderr, flush=True)
    threading.Event().wait()


def ask(address, count):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    labels = b"".join(bytes([len(label)]) + label.encode() for label in "host.example.org".split("."))
    question = labels + b"\0" + struct.pack(">HH", 1, 1)
    for number in range(count):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
            dns.settimeout(5)
            dns.sendto(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question, (address, 53))
            assert dns.recv(512)[:2] == struct.pack(">H", number)
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as page:
            assert page.read().startswith(b"a page")
        with socket.create_connection((address, 443), timeout=5) as plain:
            with context.wrap_socket(plain, server_hostname=NAME) as secure:
                secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
                while secure.recv(4096):
                    pass


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        ask(sys.argv[2], int(sys.argv[3]))
