"""Prints messages in Avro from standard input as JSON, a line for each record: its name and its fields.

Called with a schema, or with the URL of a registry that knows it. Each message is behind its length, four octets in
network byte order. With --with-id it begins with a zero and the schema's id, as Confluent's serializers write it; a
message without may have several records.
"""

import io
import json
import struct
import sys
import urllib.request
from pathlib import Path

import fastavro


def messages(octets):
    while octets:
        (length,) = struct.unpack_from(">i", octets)
        yield octets[4 : 4 + length]
        octets = octets[4 + length :]


class Schemas:
    def __init__(self, source):
        self.source = source
        self.known = {}

    def of(self, number):
        if number not in self.known:
            if self.source.startswith("http"):
                with urllib.request.urlopen(f"{self.source}/schemas/ids/{number}") as answer:
                    text = json.load(answer)["schema"]
            else:
                text = Path(self.source).read_text()
            self.known[number] = fastavro.parse_schema(json.loads(text))
        return self.known[number]


def main():
    schemas = Schemas(sys.argv[1])
    for message in messages(sys.stdin.buffer.read()):
        number = None
        if "--with-id" in sys.argv:
            magic, number = struct.unpack_from(">BI", message)
            assert magic == 0, message
            message = message[5:]
        schema = schemas.of(number)
        rest = io.BytesIO(message)
        while rest.tell() < len(message):
            fields = fastavro.schemaless_reader(rest, schema, None)
            print(json.dumps({"record": schema["name"], "fields": fields}))


if __name__ == "__main__":
    main()
