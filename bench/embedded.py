"""bench/run embedded: what the small runtimes of tools/examples cost.

    embedded [--bytes 10G] [--runtimes mini-runtime,mini-runtime-io,mini-runtime-c]

Each runtime in its turn has a guest-side lwIP on its socket and a host socket on loopback
(embedded_bench.cc), and so many bytes go up through it, and then as many down, every one of
them compared. Nothing but memory is between them, so the figures are the runtime's and the
lwIP's. A byte that is wrong, a runtime that does not end well: exit status 1.

CPU time, wake-ups (returns of poll or epoll_wait with something) and system calls are those of
the runtime's process; its calls are counted by calls_preload.cc, if that lies beside it: a
sanitizer's build does not have it. What the kernel copies is counted as well: the bytes that its calls moved, for each of
the payload's. What the runtime copies itself is not counted but known, see USER_COPIES.
"""

import argparse
import json
import os
import tempfile

import counts
from topology import BenchError, Process

HERE = os.path.dirname(os.path.abspath(__file__))
MB = 1_000_000
GBIT = 1e9 / 8
SLOWEST = 0.5 * MB  # in a second: a sanitizer on a busy machine
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
WAITS = ("poll", *counts.WAITS)

# name -> (command, options of embedded_bench)
RUNTIMES = {
    "mini-runtime": (["mini-runtime"], []),
    "mini-runtime-io": (["mini-runtime", "--io-context"], []),
    "mini-runtime-c": (["mini-runtime-c"], ["--bare"]),
}
# Of each byte, in user space: by design, see bench/README.md.
USER_COPIES = {
    "mini-runtime": {"up": "3", "down": "1"},
    "mini-runtime-io": {"up": "3", "down": "1"},
    "mini-runtime-c": {"up": "1", "down": "0"},
}


def bytes_of(text):
    scale = UNITS.get(text[-1:], 1)
    number = int(text[:-1] if text[-1:] in UNITS else text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number * scale


class Counted:
    """The runtime's calls, in a file that embedded_bench's child maps."""

    def __init__(self, bin_dir, folder):
        self.library = os.path.join(bin_dir, counts.LIBRARY)
        self.file = os.path.join(folder, "calls") if os.access(self.library, os.R_OK) else None

    def command(self, command):
        if self.file is None:
            return command
        return ["env", f"LD_PRELOAD={self.library}", f"PENSTOCK_CALLS_FILE={self.file}", *command]

    def read(self):
        if self.file is None:
            return None
        with open(self.file, "rb") as file:
            return counts.counts_in(file.read())


def show(name, direction, size, result, done):
    fields = [f"{size / result['seconds'] / GBIT:.2f}",
              f"{result['cpu_seconds'] / size * 1e9:.2f}",
              f"{result[f'frames_{direction}'] / size * MB:.1f}"]
    if done is None:
        fields += ["-", "-", "-"]
    else:
        looks = sum(done.by_name[call][1] for call in WAITS)
        calls = sum(count[0] for call, count in done.by_name.items() if call != "malloc")
        moved = sum(count[2] for call, count in done.by_name.items() if counts.is_transfer(call))
        fields += [f"{(done.calls(*WAITS) - looks) / size * MB:.1f}",
                   f"{calls / size * MB:.1f}", f"{moved / size:.2f}"]
    fields.append(USER_COPIES[name][direction])
    print(f"{name:16} {direction:5}" + "".join(f"{field:>11}" for field in fields), flush=True)


def measure(name, options):
    command, bench_options = RUNTIMES[name]
    program = os.path.join(options.runtime_bin, command[0])
    if not os.access(program, os.X_OK):
        raise BenchError(f"{program} is missing: ./tools/dev build release")
    limit = 60 + options.bytes / SLOWEST
    with tempfile.TemporaryDirectory(prefix="penstock-") as folder:
        counted = Counted(options.runtime_bin, folder)
        bench = [os.path.join(options.bin, "embedded_bench"), *bench_options]
        with Process(bench + counted.command([program, *command[1:]])) as ends:
            for direction in ("up", "down"):
                before = counted.read() if direction == "down" else None
                ends.say(f"{direction} {options.bytes}")
                result = json.loads(ends.line(limit))
                after = counted.read()
                # What it did before the first byte counts among the first.
                done = after - before if before is not None else after
                show(name, direction, options.bytes, result, done)
            ends.child.stdin.close()
            if ends.child.wait(60) != 0:
                raise ends.failure("did not end well")


def main(arguments):
    parser = argparse.ArgumentParser(prog="bench/run embedded", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", type=bytes_of, default=bytes_of("1G"), metavar="N",
                        help="each way; with K, M or G (1G)")
    parser.add_argument("--runtimes", default=",".join(RUNTIMES), metavar="A,B",
                        help=f"of {', '.join(RUNTIMES)} (all)")
    parser.add_argument("--bin", metavar="DIR",
                        default=os.path.join(HERE, "..", "build", "release", "bin"),
                        help="where the programs are (build/release/bin)")
    parser.add_argument("--runtime-bin", metavar="DIR",
                        help="where the runtimes are, if not there")
    options = parser.parse_args(arguments)
    options.bin = os.path.abspath(options.bin)
    options.runtime_bin = os.path.abspath(options.runtime_bin or options.bin)
    names = options.runtimes.split(",")
    for name in names:
        if name not in RUNTIMES:
            parser.error(f"{name} is none of {', '.join(RUNTIMES)}")
    print(f"{options.bytes} bytes each way\n{'':22}" + "".join(f"{head:>11}" for head in (
        "Gbit/s", "CPU s/GB", "frames/MB", "wakes/MB", "calls/MB", "kernel", "user")))
    print(f"{'':66}{'':11}{'copies of each byte':>22}")
    for name in names:
        measure(name, options)
    return 0
