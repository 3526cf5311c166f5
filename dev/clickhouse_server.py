#!/usr/bin/env python3
"""A real ClickHouse HTTP server on 127.0.0.1, out of the PyPI wheel chdb-core (its own handlers, users and storage).

usage: clickhouse_server.py PORT DATADIR [--user NAME] [--password TEXT] [--users XML] [--quotas XML] [--profiles XML]
                            [--log-flush-ms N]

Prints one line, `ready PORT`, on stdout once the server answers /ping on a listener that belongs to this process. Exits 1
with the cause on stderr when the port is taken or the engine stops. SIGTERM and SIGINT stop it at once with exit code 0;
the data under DATADIR survive that, and kill -9. One server a DATADIR; another password takes effect at the next start.
--users, --quotas and --profiles add elements to those sections of users.xml (this engine knows no CREATE USER).
--log-flush-ms (500) is how often query_log and part_log are written, for which SYSTEM FLUSH LOGS does not wait.
"""

import argparse
import errno
import importlib.util
import os
import pathlib
import re
import signal
import socket
import sys
import threading
import time
import urllib.request
from xml.sax.saxutils import escape

READY_SECONDS = 60

# The engine answers for as long as a query runs; this one never ends.
SERVE = (
    "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM system.numbers SETTINGS max_block_size=1,"
    " function_sleep_max_microseconds_per_block=0, max_threads=1 FORMAT Null"
)

CONFIG = """<clickhouse>
<logger><level>information</level><log>{root}/server.log</log></logger>
<listen_host>127.0.0.1</listen_host><http_port>{port}</http_port><path>{root}/data</path>
<users_config>users.xml</users_config><keep_alive_timeout>30</keep_alive_timeout><max_connections>4096</max_connections>
<query_log><database>system</database><table>query_log</table>
<flush_interval_milliseconds>{flush}</flush_interval_milliseconds></query_log>
<part_log><database>system</database><table>part_log</table>
<flush_interval_milliseconds>{flush}</flush_interval_milliseconds></part_log>
</clickhouse>
"""

# The engine's own session logs in as `default` without a password, so that user has to stay: clients use another one.
USERS = """<clickhouse>
<profiles><default><network_compression_method>LZ4</network_compression_method></default>{profiles}</profiles>
<users>
<default><password></password><networks><ip>127.0.0.1</ip></networks>
<profile>default</profile><quota>default</quota></default>
<{user}><password>{password}</password><networks><ip>::/0</ip></networks>
<profile>default</profile><quota>default</quota><access_management>1</access_management></{user}>
{users}
</users>
<quotas><default></default>{quotas}</quotas>
</clickhouse>
"""


def main():
    args = parse_args()
    use_engine_python()
    require_free(args.port)
    root = pathlib.Path(args.datadir).absolute()
    write_config(root, args)
    # The engine reads ~/.clickhouse-local/config.xml.
    os.environ["HOME"] = str(root / "home")

    # Blocked here, before any thread exists, so that every thread of the engine inherits the mask and a signal stays
    # pending for sigtimedwait below, whichever handlers the engine installs.
    stop = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    outcome = []
    engine = threading.Thread(target=lambda: outcome.append(run_engine(root)), daemon=True)
    engine.start()

    ready, deadline = False, time.monotonic() + READY_SECONDS
    while engine.is_alive():
        came = signal.sigtimedwait(stop, 0.5 if ready else 0.05)
        # After SIGSTOP and SIGCONT, CPython returns an empty siginfo instead of None.
        if came is not None and came.si_signo in stop:
            finish(0)
        if not ready and listens_here(args.port) and answers_ping(args.port):
            ready = True
            print(f"ready {args.port}", flush=True)
        elif not ready and time.monotonic() > deadline:
            finish(1, f"no answer on port {args.port} after {READY_SECONDS} s; see {root}/server.log")
    finish(1, f"the engine stopped: {outcome[0] if outcome else 'no reason given'}; see {root}/server.log")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("datadir")
    parser.add_argument("--user", default="ingest")
    parser.add_argument("--password", default="sandarb")
    parser.add_argument("--users", default="")
    parser.add_argument("--quotas", default="")
    parser.add_argument("--profiles", default="")
    parser.add_argument("--log-flush-ms", type=int, default=500)
    args = parser.parse_args()
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", args.user) or args.user == "default":
        parser.error("--user: letters, digits and _ only, and not `default` (the engine's own session uses it)")
    return args


def use_engine_python():
    """Starts again under the cache's Python when this one lacks the engine. The process id stays the same."""
    if importlib.util.find_spec("chdb"):
        return
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = os.environ.get("SANDARB_CACHE") or os.path.join(base, "sandarb-consumer")
    python = os.path.join(cache, "venv", "bin", "python")
    if os.path.exists(python) and os.path.abspath(sys.executable) != os.path.abspath(python):
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    finish(1, f"{sys.executable} has no chdb-core: run dev/setup, which puts it into {cache}/venv")


def require_free(port):
    """A busy port would not stop the engine from starting, and somebody else would answer /ping."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is taken by another process" if error.errno == errno.EADDRINUSE else f"cannot be used: {error}"
            finish(1, f"port {port} {why}")


def write_config(root, args):
    conf = root / "home" / ".clickhouse-local"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "config.xml").write_text(CONFIG.format(root=escape(str(root)), port=args.port, flush=args.log_flush_ms))
    names = {"user": args.user, "password": escape(args.password), "users": args.users, "quotas": args.quotas,
             "profiles": args.profiles}
    (conf / "users.xml").write_text(USERS.format(**names))


def run_engine(root):
    """Serves until the engine stops; returns why it did."""
    try:
        from chdb import _chdb  # opens the data directory

        _chdb.set_signal_handlers_enabled(0)
        return _chdb.query(SERVE, "TSV")
    except Exception as error:  # whatever it is, it is the reason that the server is gone
        return f"{error} (is {root} used by another server?)" if "initializ" in str(error) else error


def listens_here(port):
    """Whether a socket of this process listens on 127.0.0.1:port (proc_net_tcp(5): 0A is LISTEN, column 9 the inode)."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/self/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1] == wanted and row[3] == "0A"}
    return bool(inodes) and any(link in inodes for link in open_files())


def open_files():
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # closed since the listing
            continue


def answers_ping(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/ping", timeout=2) as answer:
            return answer.status == 200
    except OSError:  # URLError too: not there yet
        return False


def finish(code, text=None):
    """Ends at once: the engine's threads never return, so an ordinary exit would wait for them for ever."""
    if text:
        print(f"clickhouse_server: {text}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
