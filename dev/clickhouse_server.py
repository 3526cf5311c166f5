#!/usr/bin/env python3
"""A real ClickHouse HTTP server out of the PyPI wheel chdb-core: its own HTTP handler, users and storage.

usage: clickhouse_server.py PORT DATADIR [--user NAME] [--password PASSWORD]

Rows under DATADIR survive a kill. One server a DATADIR. SIGTERM stops it. Prints one line, "ready PORT PID", once
/ping answers and the listening socket belongs to this very process (a busy port would let another server answer).
"""
import argparse
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

CONFIG = """<clickhouse>
<logger><level>information</level><log>{root}/server.log</log></logger>
<listen_host>127.0.0.1</listen_host><http_port>{port}</http_port><path>{root}/data</path>
<users_config>users.xml</users_config>
<query_log><database>system</database><table>query_log</table>
<flush_interval_milliseconds>500</flush_interval_milliseconds></query_log>
<part_log><database>system</database><table>part_log</table>
<flush_interval_milliseconds>500</flush_interval_milliseconds></part_log>
<keep_alive_timeout>30</keep_alive_timeout><max_connections>4096</max_connections>
</clickhouse>"""

# The engine's own session logs in as "default" without a password, so that user stays, from one address only.
USERS = """<clickhouse><profiles><default></default></profiles><users>
<default><password></password><networks><ip>127.0.0.2</ip></networks><profile>default</profile>
<quota>default</quota></default>
<{user}><password>{password}</password><networks><ip>::/0</ip></networks><profile>default</profile>
<quota>default</quota><access_management>1</access_management></{user}>
</users><quotas><default></default></quotas></clickhouse>"""


def listens_here(port: int) -> bool:
    """Whether a listening socket on this port is one of this process's file descriptors."""
    inodes = set()
    for line in pathlib.Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{fields[9]}]")
    for descriptor in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if os.readlink(descriptor) in inodes:
                return True
        except OSError:
            continue
    return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("datadir")
    parser.add_argument("--user", default="ingest")
    parser.add_argument("--password", default="sandarb")
    args = parser.parse_args()
    root = pathlib.Path(args.datadir).absolute()
    conf = root / "home" / ".clickhouse-local"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "config.xml").write_text(CONFIG.format(root=root, port=args.port))
    (conf / "users.xml").write_text(USERS.format(user=args.user, password=args.password))
    os.environ["HOME"] = str(root / "home")

    from chdb import _chdb

    _chdb.set_signal_handlers_enabled(0)

    def serve() -> None:
        # The stateless query path runs a whole local server; it listens for as long as its query text runs.
        out = _chdb.query(
            "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM system.numbers SETTINGS max_block_size=1,"
            " function_sleep_max_microseconds_per_block=0, max_threads=1 FORMAT Null",
            "TSV",
        )
        print("the engine ended:", out, file=sys.stderr)
        os._exit(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    announced = False
    deadline = time.monotonic() + 60
    while thread.is_alive():
        # The engine sets its own handlers when it starts: put ours back.
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: os._exit(0))
        if not announced:
            if time.monotonic() > deadline:
                sys.exit(f"no answer on port {args.port} within 60 s; see {root}/server.log")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{args.port}/ping", timeout=1).read()
                announced = listens_here(args.port)
                if announced:
                    print(f"ready {args.port} {os.getpid()}", flush=True)
            except (urllib.error.URLError, OSError):
                pass
        thread.join(0.05 if not announced else 0.5)


main()
