"""Makes the tables of deploy/clickhouse, inserts rows into them, and prints what is in them as JSON.

Called with the folder of the SQL files and a file of rows. Where the tables would read from Kafka, they get rows by INSERT.
"""

import json
import re
import sys
from pathlib import Path

from chdb import session


def statements(path):
    lines = (line for line in path.read_text().splitlines() if not line.strip().startswith("--"))
    text = re.sub(r"ENGINE = Kafka\s+SETTINGS.*?;", "ENGINE = Null;", "\n".join(lines), flags=re.DOTALL)
    return [statement for statement in text.split(";") if statement.strip()]


def main():
    folder, rows = Path(sys.argv[1]), Path(sys.argv[2]).read_text()
    database = session.Session()
    for name in ["flows.sql", "bgp.sql"]:
        for statement in statements(folder / name):
            database.query(statement)
    database.query("INSERT INTO pathflow.flows_queue FORMAT JSONEachRow " + rows)

    def ask(query):
        return json.loads(database.query(query, "JSONCompact").bytes())["data"]

    # Packets of the test alone, by the network of their source.
    flows = ask(
        "SELECT extract(replaceOne(IPv6NumToString(ip_src), '::ffff:', ''), '^[0-9]+[.][0-9]+[.][0-9]+') AS network,"
        " as_src, as_dst, as_path, comms, toUInt32(sum(packets)), toUInt32(sum(bytes)) FROM pathflow.flows"
        " WHERE port_dst = 4242 AND timestamp_start > '2026-01-01' GROUP BY ALL ORDER BY network"
    )
    traffic = ask(
        "SELECT as_src, as_dst, toUInt32(sum(packets)), toUInt32(sum(bytes)) FROM pathflow.as_traffic"
        " WHERE as_src = 397143 GROUP BY ALL"
    )
    print(json.dumps({"flows": flows, "as_traffic": traffic}))


main()
