"""Where the benchmarks run: namespaces, processes, and the stacks that are measured.

The host's side is a network namespace of its own, so nothing here touches the
machine's network; the whole run is one PID namespace, so nothing outlives it. Each
stack gets a guest: a user and network namespace as a rootless container has, held by
a process that ends with its standard input.

    host namespace                                     guest namespace
    traffic_bench <- 127.0.0.1 <- sockets <- stack <-> tap0 <- traffic_bench
    uplink 192.0.2.1/24, default route                 (veth: no stack, a cable)

Every stack reaches the host's loopback by the gateway address of its guest. uplink
leads nowhere: pasta copies its address and route into the guest.

A stack that is made with `published` listens on a port of uplink's address as well, and
carries what comes there to GUEST_PORT of its guest.
"""

import itertools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

READY_TIMEOUT = 15.0
UPLINK_ADDRESS = "192.0.2.1"
UPLINK_GATEWAY = "192.0.2.254"
# Where every guest's server listens if its stack publishes it, and the host's ports, one
# for each stack that is made: below those that the system gives to clients.
GUEST_PORT = 8000
HOST_PORTS = itertools.count(8001)
# Files of the run: over this folder it has a file system of its own (set_up_host), gone
# with its namespaces.
SCRATCH = "/dev/shm"
# Of both namespaces. No cell starts from what the kernel learned about a peer in an earlier
# one; and there are ports for many connections to one server: from about half of them on,
# each connect has to look for a free one.
SETTINGS = {"/proc/sys/net/ipv4/tcp_no_metrics_save": "1",
            "/proc/sys/net/ipv4/ip_local_port_range": "10000 65535"}

# name -> (program, Debian package that brings it; None: built here)
PROGRAMS = {
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "slirp4netns": "slirp4netns",
    "pasta": "passt",
}


class BenchError(Exception):
    """Something that is not as a benchmark needs it; the text says what to change."""


def run_in_namespaces(argv):
    """Runs a program as the first process of the host's namespaces; its exit status.

    However this process ends, that one and all that it started end too.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # unshare holds SIGTERM back while it waits, so it gets SIGKILL instead.
    unshare = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", *user, "--net",
                                "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                                *argv])
    signal.signal(signal.SIGTERM, lambda *_: unshare.kill())
    signal.signal(signal.SIGINT, lambda *_: unshare.kill())
    return unshare.wait()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def require_programs(stacks, bin_dir):
    peers = [name for name in ("slirp4netns", "pasta")
             if any(stack.startswith(name) for stack in stacks)]
    for program in ["ip", "mount", "nsenter", "setpriv", "unshare", *peers]:
        if shutil.which(program) is None:
            raise BenchError(f"{program} is missing: apt-get install {PROGRAMS[program]}"
                             " (or ./tools/dev setup)")
    built = ["traffic_bench", "datagram_bench",
             *(program for name, program in (("penstock", "penstock"), ("floor", "floor_bench"))
               if any(stack.startswith(name) for stack in stacks))]
    for program in built:
        if not os.access(os.path.join(bin_dir, program), os.X_OK):
            raise BenchError(f"{bin_dir}/{program} is missing: ./tools/dev build release")
    if stacks != ["veth"] and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise BenchError("/dev/net/tun cannot be opened: chmod 666 /dev/net/tun, or run as root")


class Process:
    """A child whose output is read line by line, and which is stopped with `with`."""

    def __init__(self, command, pass_fds=()):
        self.command = command
        self.errors = tempfile.TemporaryFile()
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.errors, pass_fds=pass_fds)
        self.pid = self.child.pid
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def failure(self, what):
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        said = "; ".join(lines[-3:]) or "nothing on stderr"
        return BenchError(f"{' '.join(self.command)}: {what} ({said})")

    def line(self, timeout):
        deadline = time.monotonic() + timeout
        while b"\n" not in self.unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                raise self.failure(f"no answer in {timeout:.0f} s")
            part = os.read(self.child.stdout.fileno(), 4096)
            if not part:
                raise self.failure("ended early")
            self.unread += part
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def say(self, line):
        try:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended early") from None

    def stop(self):
        """SIGTERM, then SIGKILL; waits for the end either way."""
        self.child.terminate()
        try:
            self.child.wait(3)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout, self.errors):
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def wait_until(condition, what):
    """Polls: for what has no event to wait for."""
    deadline = time.monotonic() + READY_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"not in {READY_TIMEOUT:.0f} s: {what}")
        time.sleep(0.02)


def use_cubic(table, namespace=()):
    """Gives every IPv4 route of a table cubic congestion control.

    The machine's default may be another one (BBR paces, which is not what is compared
    here), and a namespace may not choose one for all its sockets that the machine does
    not allow; a route may.
    """
    for route in run(*namespace, "ip", "-4", "route", "show", "table", table).splitlines():
        words = [word for word in route.split() if word != "linkdown"]  # a state, no setting
        if words[0] != "broadcast":
            run(*namespace, "ip", "route", "replace", *words, "table", table,
                "congctl", "cubic")


def set_up_host():
    run("mount", "-t", "tmpfs", "bench", SCRATCH)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "uplink-far")
    run("ip", "address", "add", f"{UPLINK_ADDRESS}/24", "dev", "uplink")
    run("ip", "link", "set", "uplink-far", "up")
    run("ip", "link", "set", "uplink", "up")
    run("ip", "route", "add", "default", "via", UPLINK_GATEWAY)
    use_cubic("local")
    for path, value in SETTINGS.items():
        with open(path, "w", encoding="ascii") as file:
            file.write(value)


def listens(port):
    """Whether somebody listens on a TCP port of the host's namespace."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table, encoding="ascii") as file:
            for line in file:
                words = line.split()
                if words[1].endswith(f":{port:04X}") and words[3] == "0A":
                    return True
    return False


def process_tree(pid):
    """A process and all below it."""
    found, queue = [], [pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                queue += [int(child) for child in file.read().split()]
    return found


def cpu_seconds(pids):
    """What processes have used so far, or threads of theirs (PID/task/TID)."""
    ticks = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            raise BenchError(f"process {pid}, which is measured, is gone") from None
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids):
    """Resident memory of processes; kernel memory is not in it."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Rss:"))
    return total


class Guest:
    """A user and network namespace without a way out."""

    def __init__(self):
        settings = " && ".join(f"echo {value} > {path}" for path, value in SETTINGS.items())
        self.holder = Process(["unshare", "--user", "--map-root-user", "--net", "sh", "-c",
                               f"{settings} && ip link set lo up && echo ready && exec cat"])
        self.holder.line(READY_TIMEOUT)
        self.pid = self.holder.pid

    def command(self, *command):
        """`command`, to be run in the guest. The process keeps its PID."""
        return ["nsenter", "--preserve-credentials", f"--user=/proc/{self.pid}/ns/user",
                f"--net=/proc/{self.pid}/ns/net", *command]


class Stack:
    """One stack between the host's namespace and a guest of its own."""

    name = ""
    legend = ""
    host_address = ""  # where the guest finds the host's servers
    publish_address = UPLINK_ADDRESS  # where the host's clients find the guest's

    def __init__(self, mtu, bin_dir, published=False):
        self.mtu = mtu
        self.bin_dir = bin_dir
        self.host_port = next(HOST_PORTS) if published else None
        self.published = f"{self.publish_address}:{self.host_port}" if published else None
        self.guest = Guest()
        self.process = None
        try:
            self.start()
            if self.host_port is not None:
                wait_until(lambda: listens(self.host_port), f"{self.name} publishes a port")
            use_cubic("main", self.guest.command())
        except BaseException:
            self.stop()
            raise

    def start(self):
        raise NotImplementedError

    def stop(self):
        if self.process is not None:
            self.process.stop()
        self.guest.holder.stop()

    def start_with_ready_fd(self, command, option):
        """Starts the stack's program and waits until it writes to the descriptor."""
        ready, ready_write = os.pipe()
        try:
            where = command.index(option) + 1
            command = command[:where] + [str(ready_write)] + command[where:]
            self.process = Process(command, pass_fds=(ready_write,))
            os.close(ready_write)
            ready_write = -1
            readable = select.select([ready], [], [], READY_TIMEOUT)[0]
            if not readable or not os.read(ready, 1):
                raise self.process.failure("did not become ready")
        finally:
            os.close(ready)
            if ready_write >= 0:
                os.close(ready_write)

    def pids(self):
        """The stack's process and all below it."""
        return [] if self.process is None else process_tree(self.process.pid)

    def resident_bytes(self):
        return resident_bytes(self.pids())


class Veth(Stack):
    name = "veth"
    legend = "kernel only, a cable between the namespaces: the limit"
    count = 0

    def start(self):
        Veth.count = Veth.count % 250 + 1
        network = f"10.200.{Veth.count}"
        self.host_address = f"{network}.1"
        cable = f"cable{Veth.count}"
        run("ip", "link", "add", cable, "mtu", str(self.mtu), "type", "veth", "peer", "name",
            "tap0", "mtu", str(self.mtu), "netns", str(self.guest.pid))
        run("ip", "address", "add", f"{network}.1/24", "dev", cable)
        run("ip", "link", "set", cable, "up")
        use_cubic("main")
        run(*self.guest.command("ip", "address", "add", f"{network}.2/24", "dev", "tap0"))
        run(*self.guest.command("ip", "link", "set", "tap0", "up"))
        if self.published is not None:
            self.host_port = None  # nobody listens for the guest
            self.published = f"{network}.2:{GUEST_PORT}"


class Slirp4netns(Stack):
    name = "slirp4netns"
    legend = "Debian's slirp4netns"
    host_address = "10.0.2.2"

    def start(self):
        api = os.path.join(SCRATCH, f"slirp4netns.{self.guest.pid}")
        self.start_with_ready_fd(
            ["slirp4netns", "--configure", f"--mtu={self.mtu}", f"--api-socket={api}",
             "--ready-fd", str(self.guest.pid), "tap0"], "--ready-fd")
        if self.published is not None:
            self.ask(api, {"execute": "add_hostfwd", "arguments": {
                "proto": "tcp", "host_addr": self.publish_address, "host_port": self.host_port,
                "guest_port": GUEST_PORT}})

    @staticmethod
    def ask(api, request):
        """One request, one connection; the answer ends with the connection."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(READY_TIMEOUT)
            try:
                connection.connect(api)
                connection.sendall(json.dumps(request).encode())
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
            except OSError as problem:
                raise BenchError(f"slirp4netns: {request['execute']}: {problem}") from None
        if b'"return"' not in answer:
            raise BenchError(f"slirp4netns: {request['execute']}: {answer.decode()}")


class Pasta(Stack):
    name = "pasta"
    legend = "Debian's pasta (passt)"
    host_address = UPLINK_GATEWAY

    def start(self):
        namespaces = f"/proc/{self.guest.pid}/ns"
        ports = "none" if self.published is None else f"{self.host_port}:{GUEST_PORT}"
        self.process = Process(
            ["pasta", "--foreground", "--quiet", "--config-net", "--ipv4-only",
             "--mtu", str(self.mtu), "--ns-ifname", "tap0", "--runas", "0",
             "--tcp-ports", ports, "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
             "--userns", f"{namespaces}/user", "--netns", f"{namespaces}/net"])
        wait_until(self.configured, "pasta gives its guest a default route")

    def configured(self):
        if self.process.child.poll() is not None:
            raise self.process.failure("ended early")
        return "default" in run(*self.guest.command("ip", "route", "show", "default"))


class PastaSplice(Pasta):
    name = "pasta-splice"
    legend = "pasta for clients on 127.0.0.1: sockets in both namespaces, no guest's link"
    publish_address = "127.0.0.1"

    def start(self):
        super().start()
        use_cubic("local", self.guest.command())  # its sockets in the guest use lo


class Penstock(Stack):
    name = "penstock"
    legend = "penstock as it comes: it chooses how many threads"
    host_address = "10.0.2.2"
    options = ()

    def start(self):
        publish = ([] if self.published is None else
                   ["--publish", f"{self.published}:{GUEST_PORT}/tcp"])
        self.start_with_ready_fd(
            [os.path.join(self.bin_dir, "penstock"), "attach", "--pid", str(self.guest.pid),
             "--mtu", str(self.mtu), "--host-loopback", *publish, *self.options,
             "--ready-fd"], "--ready-fd")


class PenstockOneThread(Penstock):
    name = "penstock-r0"
    legend = "penstock --relay-threads 0: stack and relay on one thread"
    options = ("--relay-threads", "0")


class PenstockRelayThread(Penstock):
    name = "penstock-r1"
    legend = "penstock --relay-threads 1: the relay on a thread of its own"
    options = ("--relay-threads", "1")


class Floor(Stack):
    name = "floor"
    legend = "the two copies through the kernel alone: floor_bench, no network"
    host_address = "10.0.2.2"
    host_mac = "02:00:00:00:00:02"  # as in floor_bench.cc

    def start(self):
        self.start_with_ready_fd(
            [os.path.join(self.bin_dir, "floor_bench"), "--pid", str(self.guest.pid), "--mtu",
             str(self.mtu), "--ready-fd"], "--ready-fd")
        for words in (("address", "add", "10.0.2.100/24", "dev", "tap0"),
                      ("link", "set", "tap0", "mtu", str(self.mtu), "up"),
                      ("neighbour", "replace", self.host_address, "lladdr", self.host_mac,
                       "dev", "tap0", "nud", "permanent")):
            run(*self.guest.command("ip", *words))


STACKS = {stack.name: stack for stack in (
    Veth, Slirp4netns, Pasta, Penstock, PenstockOneThread, PenstockRelayThread, Floor)}
# What there is for published ports.
PUBLISHING_STACKS = {stack.name: stack for stack in (
    Veth, Slirp4netns, Pasta, PastaSplice, Penstock, PenstockOneThread, PenstockRelayThread)}
# In the best of these penstock has its measure; pasta-splice has no guest's link.
PEERS = ("slirp4netns", "pasta")
LEGENDS = {name: stack.legend for name, stack in {**STACKS, **PUBLISHING_STACKS}.items()}
