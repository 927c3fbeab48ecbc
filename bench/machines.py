"""Virtual machines behind the stacks that QEMU can have: its own (-netdev user), passt, penstock.

    host namespace                                              the machine (QEMU, emulated)
    traffic_bench <- 127.0.0.1 <- sockets <- stack <-> QEMU's socket <-> card <- traffic_bench

The machine is that of the tests (tests/vm): Debian's kernel and an initramfs in memory. It
configures itself by DHCP. All that is measured of a stack is in topology.py's form, so that
rounds.py takes a machine for a stack.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time

import topology
from topology import BenchError, Process

BOOT_TIMEOUT = 60.0
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
KERNEL = os.environ.get("PENSTOCK_LINUX_DIR", os.path.join(ROOT, "build", "third_party", "linux"))
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "passt": "passt", "cpio": "cpio",
            "busybox": "busybox-static"}


def require_programs(stacks, bin_dir):
    for program, package in PROGRAMS.items():
        if shutil.which(program) is None and (program != "passt" or "passt" in stacks):
            raise BenchError(f"{program} is missing: apt-get install {package}"
                             " (or ./tools/dev setup)")
    for program in ("traffic_bench", "penstock"):
        if not os.access(os.path.join(bin_dir, program), os.X_OK):
            raise BenchError(f"{bin_dir}/{program} is missing: ./tools/dev build release")
    if not os.path.exists(os.path.join(KERNEL, "vmlinuz")):
        raise BenchError(f"{KERNEL}/vmlinuz is missing: third_party/linux/fetch (or ./tools/dev"
                         " setup)")


class Console:
    """The guest's side for topology's users: who runs commands in it."""

    def __init__(self, path):
        self.path = path
        self.pids = []

    def command(self, program, *arguments):
        """`program`, to be run in the machine: what is started here carries its words."""
        return [sys.executable, os.path.join(HERE, "machine_console.py"), self.path,
                ",".join(self.pids), os.path.basename(program), *arguments]


class Machine:
    """One machine and the stack behind its card."""

    name = ""
    legend = ""
    host_address = "10.0.2.2"
    published = None
    made = 0

    def __init__(self, mtu, bin_dir):
        self.mtu = mtu
        self.bin_dir = bin_dir
        Machine.made += 1
        self.folder = os.path.join(topology.SCRATCH, f"machine{Machine.made}")
        os.mkdir(self.folder)
        self.socket = os.path.join(self.folder, "network")
        self.guest = Console(os.path.join(self.folder, "console"))
        self.server = self.qemu = None
        try:
            self.start_server()
            self.boot()
            self.guest.pids = self.pids()
        except BaseException:
            self.stop()
            raise

    def start_server(self):
        """The process that has the stack; none if that is QEMU."""
        raise NotImplementedError

    def netdev(self):
        return f"stream,id=n,server=off,addr.type=unix,addr.path={self.socket}"

    def boot(self):
        made = subprocess.run([os.path.join(ROOT, "tests", "vm", "image"), KERNEL, self.folder,
                               os.path.join(self.bin_dir, "traffic_bench")],
                              capture_output=True, text=True)
        if made.returncode != 0:
            raise BenchError(f"tests/vm/image: {made.stderr.strip()}")
        self.qemu = Process([
            "qemu-system-x86_64", "-accel", "tcg", "-machine", "pc", "-m", "256", "-nodefaults",
            "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", os.path.join(KERNEL, "vmlinuz"),
            "-initrd", os.path.join(self.folder, "initramfs"),
            "-append", "console=ttyS0 quiet loglevel=1 panic=-1 tsc=reliable no_timer_check",
            "-chardev", f"socket,id=console,path={self.guest.path},server=on,wait=on",
            "-serial", "chardev:console", "-netdev", self.netdev(),
            "-device", "virtio-net-pci,netdev=n,romfile="])
        topology.wait_until(lambda: os.path.exists(self.guest.path), "QEMU opens its console")
        with socket.socket(socket.AF_UNIX) as console:
            console.settimeout(BOOT_TIMEOUT)
            console.connect(self.guest.path)
            self.await_line(console, "=ready")
            # Of the kernel's own, as every guest of the benchmarks.
            for line in (f"ip link set eth0 mtu {self.mtu}",
                         "udhcpc -q -n -f -t 30 -T 1 -i eth0 -s /lease 2> /dev/null",
                         "echo cubic > /proc/sys/net/ipv4/tcp_congestion_control",
                         "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save"):
                console.sendall(line.encode() + b"\n")
                if self.await_line(console, "=status ").strip() != "0":
                    raise BenchError(f"{self.name}: in the machine, {line} failed")

    def await_line(self, console, mark):
        said, deadline = b"", time.monotonic() + BOOT_TIMEOUT
        while not re.search(re.escape(mark).encode() + rb"[^\n]*\n", said):
            if time.monotonic() > deadline:
                raise self.qemu.failure(f"the machine does not say {mark} but {said!r}")
            try:
                part = console.recv(4096)
            except TimeoutError:
                continue
            if not part:
                raise self.qemu.failure("the machine is gone")
            said += part
        return said[said.index(mark.encode()) + len(mark):].decode(errors="replace")

    def server_pids(self):
        return [] if self.server is None else topology.process_tree(self.server.pid)

    def pids(self):
        """The stack's processes, and QEMU's main thread: it brings the frames there, and is the
        stack of -netdev user. The other thread of QEMU's is the machine's processor."""
        main = [] if self.qemu is None else [f"{self.qemu.pid}/task/{self.qemu.pid}"]
        return [*main, *map(str, self.server_pids())]

    def resident_bytes(self):
        """Of the stack's processes; nothing where it is QEMU."""
        return topology.resident_bytes(self.server_pids())

    def cpu_seconds(self):
        """Of the stack's processes, and of QEMU's main thread."""
        server = topology.cpu_seconds(self.server_pids())
        return server, topology.cpu_seconds(self.pids()) - server

    def stop(self):
        for process in (self.qemu, self.server):
            if process is not None:
                process.stop()


class User(Machine):
    name = "user"
    legend = "QEMU's own: -netdev user (libslirp), on QEMU's main thread; MTU 1500 only"

    def start_server(self):
        pass

    def netdev(self):
        return "user,id=n,ipv6=off"


class Passt(Machine):
    name = "passt"
    legend = "Debian's passt, -netdev stream"
    host_address = topology.UPLINK_GATEWAY

    def start_server(self):
        self.server = Process(["passt", "--foreground", "--quiet", "--socket", self.socket,
                               "--mtu", str(self.mtu), "--ipv4-only", "--tcp-ports", "none",
                               "--udp-ports", "none", "--runas", "0"])
        topology.wait_until(lambda: os.path.exists(self.socket), "passt listens")


class Penstock(Machine):
    name = "penstock"
    legend = "penstock serve --stream, -netdev stream"
    option = "--stream"
    more = ()

    def start_server(self):
        ready, ready_write = os.pipe()
        try:
            self.server = Process(
                [os.path.join(self.bin_dir, "penstock"), "serve", self.option, self.socket,
                 "--host-loopback", "--mtu", str(self.mtu), "--ready-fd", str(ready_write),
                 *self.more],
                pass_fds=(ready_write,))
            os.close(ready_write)
            ready_write = -1
            if not os.read(ready, 1):
                raise self.server.failure("did not become ready")
        finally:
            os.close(ready)
            if ready_write >= 0:
                os.close(ready_write)


class PenstockSleepy(Penstock):
    name = "penstock-50"
    legend = "the same with --busy-poll 50: looks for the next piece for 50 us, not 400"
    more = ("--busy-poll", "50")


class PenstockDatagrams(Penstock):
    name = "penstock-dgram"
    legend = "penstock serve --dgram, -netdev dgram"
    option = "--dgram"

    def netdev(self):
        return (f"dgram,id=n,local.type=unix,local.path={self.socket}.qemu,remote.type=unix,"
                f"remote.path={self.socket}")


MACHINES = {machine.name: machine for machine in (User, Passt, Penstock, PenstockSleepy,
                                                 PenstockDatagrams)}
LEGENDS = {name: machine.legend for name, machine in MACHINES.items()}
