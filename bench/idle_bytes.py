"""bench/run bytes: where every byte of an idle connection goes.

    bytes [--connections N]

Two penstocks, one after the other, each with N connections open, proven and idle. In one,
heap_preload.cc keeps account of who allocated what is alive; its table is printed, for each
connection. Of the other the resident memory is measured, as bench/run idle does it: the sum
of the table should come to that. One thread; MTU 1500.
"""

import argparse
import json
import os
import re
import struct
import subprocess
import sys

import idle
import topology
import traffic
from topology import SCRATCH, BenchError, PenstockOneThread

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "--inside-namespaces"
LIBRARY = "libheap_preload.so"
FEW = 10
MTU = 1500
FRAMES = 24  # kFrames of heap_preload.cc
HEAD = struct.Struct("QQQ")
SITE = struct.Struct(f"{FRAMES + 3}Q")

# What was allocated, by the functions on the stack, the innermost first; the first pattern
# that one of them matches.
NAMES = (
    (r"^tcp_alloc", "lwIP's PCB (tcp_pcb)"),
    (r"unique<penstock::Flow \[\]", "Flow, in slabs of 64"),
    (r"FlowTable::Add", "flow table: hash slots, free list"),
    (r"Deadlines<", "deadlines: a vector's slots"),
    (r"descriptor_state", "Asio: descriptor_state"),
    (r"reactive_socket_recv_op|reactive_wait_op", "Asio: the waiting read"),
    (r"awaitable_frame", "coroutine frames"),
    (r"MakeTcpTask", "TcpTask, with its reference count"),
    (r"tcp_segs?_|pbuf_alloc", "lwIP's segments"),
)


class Account:
    """site (a tuple of frames) -> (blocks, bytes asked for, bytes held)"""

    def __init__(self, path):
        with open(path, "rb") as file:
            data = file.read()
        self.load_address, count, unaccounted = HEAD.unpack_from(data)
        if unaccounted:
            raise BenchError(f"{unaccounted} allocations found no room in the account")
        self.sites = {}
        for number in range(count):
            row = SITE.unpack_from(data, HEAD.size + number * SITE.size)
            self.sites[row[:FRAMES]] = row[FRAMES:]


class Accounted(PenstockOneThread):
    def start_with_ready_fd(self, command, option):
        library = os.path.join(self.bin_dir, LIBRARY)
        if not os.access(library, os.R_OK):
            raise BenchError(f"{library} is missing: ./tools/dev build release")
        self.account_file = os.path.join(SCRATCH, f"heap.{self.guest.pid}")
        super().start_with_ready_fd(["env", f"LD_PRELOAD={library}",
                                     f"PENSTOCK_HEAP_FILE={self.account_file}", *command], option)


def functions(program, load_address, frames):
    addresses = [hex(frame - load_address - 1) for frame in frames if frame > load_address]
    lines = topology.run("addr2line", "-Cfi", "-e", program, *addresses).splitlines()
    return lines[::2]  # of each function its name, then its place


def name_of(calls):
    for function in calls:
        for pattern, name in NAMES:
            if re.search(pattern, function):
                return name
    own = [function for function in calls if "penstock::" in function]
    return f"other: {own[0][:60]}" if own else "other"


def growth(before, after, connections, program):
    """name -> [blocks, bytes asked for, bytes held], each for one connection."""
    rows = {}
    for frames, now in after.sites.items():
        then = before.sites.get(frames, (0, 0, 0))
        if now == then:
            continue
        name = name_of(functions(program, after.load_address, frames))
        row = rows.setdefault(name, [0, 0, 0])
        for place in range(3):
            row[place] += (now[place] - then[place]) / connections
    return rows


def account(options):
    stack = Accounted(MTU, options.bin)
    try:
        with traffic.Talk(stack) as talk:
            talk.open(FEW)
            idle.resident_at_rest(stack)
            before = Account(stack.account_file)
            talk.open(options.connections)
            idle.resident_at_rest(stack)
            after = Account(stack.account_file)
    finally:
        stack.stop()
    return growth(before, after, options.connections - FEW, os.path.join(options.bin, "penstock"))


def resident(options):
    stack = PenstockOneThread(MTU, options.bin)
    try:
        with traffic.Talk(stack) as talk:
            talk.open(FEW)
            before = idle.resident_at_rest(stack)
            talk.open(options.connections)
            return (idle.resident_at_rest(stack) - before) / (options.connections - FEW)
    finally:
        stack.stop()


def print_parts(options):
    done = subprocess.run([os.path.join(options.bin, "count_bench"), "sizes"],
                          capture_output=True, text=True, check=True)
    print(f"\n{'of which in a Flow':44} {'bytes':>8}")
    for name, size in json.loads(done.stdout).items():
        print(f"  {name:42} {size:8}")


def measure(options):
    rows = account(options)
    print(f"an idle connection among {options.connections}, one thread:\n")
    print(f"{'what':44} {'blocks':>8} {'asked':>8} {'held':>8}")
    small = [0, 0, 0]
    for name, row in sorted(rows.items(), key=lambda item: -item[1][2]):
        if row[2] < 1:
            small = [sum(pair) for pair in zip(small, row)]
            continue
        print(f"{name:44} {row[0]:8.3f} {row[1]:8.0f} {row[2]:8.0f}")
    print(f"{'the rest':44} {small[0]:8.3f} {small[1]:8.0f} {small[2]:8.0f}")
    held = sum(row[2] for row in rows.values())
    print(f"{'sum':44} {sum(row[0] for row in rows.values()):8.3f}"
          f" {sum(row[1] for row in rows.values()):8.0f} {held:8.0f}")
    measured = resident(options)
    print(f"{'resident memory, measured':44} {'':8} {'':8} {measured:8.0f}"
          f"   ({measured / 1024:.2f} KiB)")
    print_parts(options)


def main(arguments):
    inside = INSIDE in arguments
    parser = argparse.ArgumentParser(prog="bench/run bytes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000, metavar="N",
                        help="at least 100 (10000)")
    parser.add_argument("--bin", metavar="DIR",
                        default=os.path.join(HERE, "..", "build", "release", "bin"),
                        help="where the programs are (build/release/bin)")
    options = parser.parse_args([argument for argument in arguments if argument != INSIDE])
    options.connections = max(options.connections, 100)
    options.bin = os.path.abspath(options.bin)
    if inside:
        topology.set_up_host()
        measure(options)
        return 0
    topology.require_programs(["penstock"], options.bin)
    status = topology.run_in_namespaces(
        [sys.executable, os.path.join(HERE, "run"), "bytes", INSIDE, *arguments])
    return 0 if status == 0 else 1
