"""Parts of dev/demo: the screen, child processes, ClickHouse over HTTP, figures of a process. Standard library only."""

import ctypes
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# No proxy of the environment: everything asked here is on this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The demo cannot go on; the text names cause and cure."""


class Stopped(BaseException):
    """A signal asks the demo to end."""

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


class Screen:
    """A list of steps, the last one in progress: redrawn in place on a terminal, one plain line each without one."""

    PLAIN_SECONDS = 2

    def __init__(self):
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.lines = []
        self.drawn = 0
        self.name = None
        self.detail = ""
        self.started = 0.0
        self.said = 0.0

    def begin(self, name):
        self.name, self.detail = name, ""
        self.started = self.said = time.monotonic()
        self.draw()

    def update(self, detail):
        self.detail = detail
        if self.live:
            self.draw()
        elif time.monotonic() - self.said >= self.PLAIN_SECONDS:
            self.said = time.monotonic()
            self.draw_plain(f"  {self.name:<12} {detail}")

    def done(self, detail):
        line = f"✓ {self.name:<12} {detail}"
        took = time.monotonic() - self.started
        self.name = None
        self.lines.append(f"{line}  ({took:.1f} s)")
        if self.live:
            self.draw()
        else:
            self.draw_plain(self.lines[-1])

    def draw(self):
        if not self.live:
            return
        size = shutil.get_terminal_size()
        lines = list(self.lines)
        if self.name:
            mark = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int(time.monotonic() * 10) % 10]
            lines.append(f"{mark} {self.name:<12} {self.detail}")
        lines = [line[: size.columns - 1] for line in lines[-(size.lines - 1) :]]
        up = f"\x1b[{self.drawn}A" if self.drawn else ""
        sys.stdout.write(f"{up}\r\x1b[J" + "".join(line + "\n" for line in lines))
        sys.stdout.flush()
        self.drawn = len(lines)

    @staticmethod
    def draw_plain(line):
        print(line, flush=True)


class Children:
    """Processes of this run. Each has a session of its own, so that a Ctrl-C reaches it only through `stop_all`, and is
    told to die with this process, so that not even kill -9 of the demo leaves one behind."""

    def __init__(self, logs):
        self.logs = pathlib.Path(logs)
        self.running = []

    def start(self, name, argv, env=None, stop_seconds=5, on_parent_death=signal.SIGKILL):
        log = self.logs / f"{name}.log"
        parent = os.getpid()

        def die_with_parent():
            LIBC.prctl(PR_SET_PDEATHSIG, int(on_parent_death), 0, 0, 0)
            if os.getppid() != parent:  # it was gone before the call
                os._exit(1)

        with open(log, "wb") as out:
            process = subprocess.Popen(
                [str(word) for word in argv], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=die_with_parent)
        child = Child(name, process, log, stop_seconds)
        self.running.append(child)
        return child

    def check(self, ending=None):
        """Fails when one of them has ended by itself, other than `ending`, whose end is its caller's matter."""
        for child in self.running:
            code = child.process.poll()
            if code is not None and child is not ending:
                raise Failed(f"{child.name} ended with code {code}; the end of its log:\n{child.tail()}")

    def finish(self, child):
        """Takes one that has ended as it should off the list."""
        self.running.remove(child)

    def stop_all(self):
        for child in reversed(self.running):
            child.stop()
        self.running.clear()

    def kill_all(self):
        for child in self.running:
            child.kill()


class Child:
    def __init__(self, name, process, log, stop_seconds):
        self.name, self.process, self.log, self.stop_seconds = name, process, log, stop_seconds

    def text(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=15):
        return "\n".join("  " + line for line in self.text().splitlines()[-lines:]) or "  (empty)"

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(self.stop_seconds)
            except subprocess.TimeoutExpired:
                print(f"{self.name} did not stop within {self.stop_seconds} s: killed", file=sys.stderr)
        self.kill()

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # the whole group is gone, as it should be
            pass
        self.process.wait()


class ClickHouse:
    def __init__(self, port, user, password):
        self.url = f"http://127.0.0.1:{port}/"
        self.user, self.password = user, password

    def query(self, sql):
        request = urllib.request.Request(self.url, data=sql.encode(), headers={
            "X-ClickHouse-User": self.user, "X-ClickHouse-Key": self.password})
        try:
            with LOCAL.open(request, timeout=30) as answer:
                return answer.read().decode().rstrip("\n")
        except urllib.error.HTTPError as error:
            raise Failed(f"ClickHouse refused: {error.read(2000).decode(errors='replace').strip()}\n  {sql[:300]}") from None
        except OSError as error:
            raise Failed(f"ClickHouse at {self.url} does not answer: {error}") from None

    def numbers(self, sql):
        return [int(cell) for cell in self.query(sql).split("\t")]

    def run_file(self, path):
        """Statements end with a `;` at the end of a line."""
        for statement in re.split(r";[ \t]*$", path.read_text(), flags=re.MULTILINE):
            if re.sub(r"--[^\n]*", "", statement).strip():
                self.query(statement)

    def curl(self, sql):
        access = urllib.parse.urlencode({"user": self.user, "password": self.password})
        return f"curl '{self.url}?{access}' --data-binary \"{sql}\""


class Program:
    """One replica of sandarb-consumer: its endpoints and its process, which may be a second one after a restart."""

    def __init__(self, port, pid=None):
        self.port, self.pid = port, pid
        self.url = f"http://127.0.0.1:{port}/health"
        self.cpu_before = 0.0

    def text(self, path="health"):
        """The body of an endpoint, whatever its status; None while nobody answers."""
        try:
            with LOCAL.open(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:  # 503: unhealthy, with a body
            return error.read().decode(errors="replace")
        except OSError:
            return None

    def fields(self, path):
        try:
            fields = json.loads(self.text(path) or "{}")
        except ValueError:
            return {}
        return fields if isinstance(fields, dict) else {}

    def health(self):
        return self.fields("health")

    def partitions(self):
        """The partitions it holds."""
        return self.fields("status").get("kafka", {}).get("partitions", [])

    def ending(self):
        """Remembers what its process has used, before that one ends."""
        figures = self.figures()
        self.cpu_before = figures[2] if figures else self.cpu_before

    def figures(self):
        """(RSS now, peak RSS, both in MiB; CPU seconds), or None where the process cannot be seen from here."""
        try:
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return None
        kib = {key: int(value) for key, value in re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", status, re.MULTILINE)}
        if "Name:\tsandarb-consume" not in status or len(kib) != 2:  # another pid namespace: somebody else's process
            return None
        # proc_pid_stat(5): utime and stime are fields 14 and 15; the name before them may hold spaces.
        user, system = stat.rpartition(")")[2].split()[11:13]
        cpu = self.cpu_before + (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
        return kib["VmRSS"] / 1024, kib["VmHWM"] / 1024, cpu


def shares(programs):
    """Who reads which partitions, as `8079: 0-5 · 8080: 6-11`."""
    return " · ".join(f"{program.port}: {runs(program.partitions())}" for program in programs)


def runs(numbers):
    """Numbers with their runs drawn together, as `0-5, 8`."""
    parts = []
    for number in sorted(numbers):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts) or "none"


# Below those that the kernel gives to outgoing connections (ip_local_port_range): one of these would take a port between
# the look here and the start of the server that is to have it.
PORTS = range(10_000, 32_000)
NEXT_PORT = itertools.count(random.randrange(len(PORTS)))


def free_port(first=None):
    """`first` or the next port nobody uses; without it any free one, each time another."""
    ports = range(first, first + 200) if first else (PORTS[next(NEXT_PORT) % len(PORTS)] for _ in PORTS)
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
    tried = ports if first else PORTS
    raise Failed(f"no free port from {tried[0]} to {tried[-1]}")
