"""bench/run profile: where the work of one kind of traffic goes.

    profile CELL     of round-trips, up, down, connects, udp-up, udp-down, flows-N
    profile          all of them but flows-N, which is N connections in turn

Three accounts, printed and written to build/profile/CELL.txt:

  instructions   of penstock's own code, by group and by function, for each packet and for
                 each unit of work: a deterministic program under callgrind
  system calls   of the real penstock on a tap, of each kind, with their bytes; wake-ups and
                 allocations; with and without a relay thread
  time           of the real penstock, and what the kernel does for it: perf's samples, by
                 cycles where the machine counts them and else by the processor's clock

flows-N has the first only. What the groups are and how to read it: bench/README.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

import callgrind
import counts
import topology
from topology import BenchError

HERE = os.path.dirname(os.path.abspath(__file__))
INSIDE = "--inside-namespaces"
FUNCTIONS = 25
SAMPLED_SECONDS = 3.0

# Of penstock's own code, by the file of a function; the patterns that say more come first.
GROUPS = (
    (r"/lwip/|lwip-", "lwIP"),
    (r"/stack/tcpip/", "stack/tcpip: around lwIP"),
    (r"/stack/wire/", "stack/wire: parser, emitter, checksums"),
    (r"/stack/flow/", "stack/flow: flows, batch"),
    (r"/stack/link/", "stack/link"),
    (r"/stack/service/", "stack/service"),
    (r"/stack/dns/", "stack/dns"),
    (r"/stack/policy/", "stack/policy"),
    (r"/stack/", "stack: the pass"),
    (r"/relay/", "relay"),
    (r"/publisher/", "publisher"),
    (r"/boost/", "Asio"),
    (r"/absl/", "Abseil"),
    (r"/(bench|tests)/", "the simulated world's share"),
)
# Of the C library, which is known by its functions.
LIBRARY = (
    (r"mem(cpy|move|set)", "copies (memcpy, memset)"),
    (r"malloc|calloc|realloc|free|operator (new|delete)|unlink_chunk|tcache", "allocator"),
)
# What perf samples in the kernel.
KERNEL = (
    (r"copy_(user|to_iter|from_iter|page)|rep_movs|copyin|copyout|csum_partial_copy|memcpy",
     "kernel: copies"),
    (r"^(tun|tap)_|virtio_net_hdr", "kernel: tap"),
    (r"^(ep|epoll|eventfd|do_epoll|__ep)_|wake_up|try_to_wake|ttwu|schedul|pick_next|select_task"
     r"|enqueue|dequeue|switch_|finish_task|futex|update_(curr|load|rq)|_entity|sched_|spin_",
     "kernel: waiting, waking, locks"),
    (r"alloc|free|slab|kmem|page|folio|lru|charge", "kernel: memory"),
    (r"tcp|udp|skb|sock|sk_|ip_|ip6?_|ipv4|inet|net|dev_|eth|napi|gro|route|fib|nf_|loopback|xmit",
     "kernel: TCP, IP, sockets"),
    (r"syscall|SYSCALL|entry|fdget|fget|__x64_sys|vfs_|security_|import_iovec|fput|rw_verify",
     "kernel: system calls"),
)


def short(function):
    """A function's name without the arguments of templates, parameters and clones."""
    name = re.sub(r"\[clone [^]]*\]|'\d+$", "", function)
    depth, kept = 0, []
    for at, letter in enumerate(name):
        opens = letter == "<" and not name[:at].endswith(("operator", "operator<"))
        closes = letter == ">" and depth > 0 and not name[:at].endswith("-")
        depth += opens
        if depth == 0:
            kept.append(letter)
        depth -= closes
    name = "".join(kept)
    cut = name.find("(", name.find(")") + 1 if name.startswith("(") else 0)
    name = name.replace("(anonymous namespace)::", "")
    if cut > 0 and "operator()" not in name:
        name = name.split("(", 1)[0]
    return name.replace("penstock::", "").replace("boost::asio::", "asio::").strip()[:72]


def group_of(function, files):
    for pattern, group in LIBRARY:
        if re.search(pattern, function) and "penstock" not in function:
            return group
    # The first one is that of its entry, if no standard header's function was inlined there.
    for path in [path for path in files if not path.startswith("/usr/include/c++")] or files:
        for pattern, group in GROUPS:
            if re.search(pattern, path):
                return group
    return "C and C++ libraries"


def instruction_account(cell, options):
    profile = callgrind.run(options.bin, [cell])[cell]
    units, packets, total = profile.units, profile.packets, profile.instructions
    yield (f"instructions of penstock's own code: {total / units:,.0f} for each {profile.unit},"
           f" {total / packets:,.0f} for each packet ({packets / units:.2f} packets of the link"
           f" for each {profile.unit}; {units} counted)")
    groups, functions = {}, {}
    for name, (instructions, files) in profile.functions.items():
        group = group_of(name, files)
        groups[group] = groups.get(group, 0) + instructions
        function = (short(name), group)
        functions[function] = functions.get(function, 0) + instructions

    def table(title, rows):
        yield ""
        yield f"{title:80} {'/ ' + profile.unit:>14} {'/ packet':>10} {'share':>7}"
        for name, count in rows:
            yield f"{name:80} {count / units:14,.1f} {count / packets:10,.1f} {count / total:7.1%}"

    by_count = sorted(groups.items(), key=lambda row: -row[1])
    yield from table("group", [row for row in by_count if row[1] > 0])
    by_count = sorted(functions.items(), key=lambda row: -row[1])[:FUNCTIONS]
    yield from table("function", [(f"{name}  [{group.split(':')[0]}]", count)
                                  for (name, group), count in by_count])


def call_account(cell, options):
    yield ""
    yield "system calls of penstock on a tap, MTU 1500; r1: with a relay thread"
    for name, kind in counts.STACKS.items():
        stack = kind(counts.MTU, options.bin)
        try:
            counted, units, seconds = counts.measure(stack, counts.CELLS[cell])
        finally:
            stack.stop()
        unit = counts.CELLS[cell].unit
        yield ""
        yield (f"{name}: for each {unit} {counted.system_calls() / units:.2f} system calls, of"
               f" which {counted.wake_ups() / units:.2f} are wake-ups; {counted.looks() / units:.2f}"
               " more looks at epoll")
        yield (f"    for nothing; {counted.allocations() / units:.2f} allocations; CPU time"
               f" {seconds[0] / units * 1e6:.1f} us user, {seconds[1] / units * 1e6:.1f} us system")
        yield f"  {'call':18} {'/ ' + unit:>14} {'for nothing':>12} {'bytes each':>12}"
        rows = sorted(counted.by_name.items(), key=lambda row: -row[1][0])
        for call, (calls, empty, amount) in rows:
            if calls / units < 0.001 or call == "malloc":
                continue
            moved = counts.is_transfer(call) and calls > empty
            each = f"{amount / (calls - empty):,.0f}" if moved else ""
            nothing = f"{empty / units:.3f}" if counts.may_be_empty(call) else ""
            yield f"  {call:18} {calls / units:14.3f} {nothing:>12} {each:>12}"


def counters_there():
    done = subprocess.run(["perf", "stat", "-e", "cycles", "true"], capture_output=True, text=True)
    return done.returncode == 0 and "not supported" not in done.stderr


def samples(stack, cell, event, file):
    """[(share of the samples, object, symbol)]"""
    with counts.CELLS[cell].ends(stack):
        counts.wait_for(stack, counts.CELLS[cell], counts.CELLS[cell].warm_up)
        pids = ",".join(str(pid) for pid in stack.pids())
        recorded = subprocess.run(["perf", "record", "-q", "-e", event, "-F", "2000", "-o", file,
                                   "-p", pids, "--", "sleep", str(SAMPLED_SECONDS)],
                                  capture_output=True, text=True)
    if recorded.returncode != 0:
        raise BenchError(f"perf record: {recorded.stderr.strip()}")
    report = topology.run("perf", "report", "-i", file, "--stdio", "-q", "-F", "overhead,dso,sym",
                          "-t", ";")
    rows = []
    for line in report.splitlines():
        words = line.split(";", 2)
        if len(words) == 3 and words[0].strip().endswith("%"):
            symbol = re.sub(r"^\[.\] ", "", words[2].strip())
            rows.append((float(words[0].strip().rstrip("%")) / 100, words[1].strip(), symbol))
    return rows


def time_group(dso, symbol):
    if "kernel" in dso or dso.startswith("["):
        for pattern, group in KERNEL:
            if re.search(pattern, symbol):
                return group
        return "kernel: the rest"
    for pattern, group in LIBRARY:
        if re.search(pattern, symbol) and "penstock" not in symbol:
            return f"user: {group}"
    return "user: penstock" if "penstock" in dso else "user: libraries"


def time_account(cell, options):
    yield ""
    if shutil.which("perf") is None:
        yield "time: perf is not there (Debian: linux-perf)"
        return
    event = "cycles" if counters_there() else "cpu-clock"
    if event == "cpu-clock":
        yield ("time: perf's samples by the processor's clock; this machine does not count"
               " cycles and instructions")
    else:
        yield "time: perf's samples by cycles"
    for name, kind in counts.STACKS.items():
        stack = kind(counts.MTU, options.bin)
        file = os.path.join(topology.SCRATCH, f"perf.{name}")
        try:
            rows = samples(stack, cell, event, file)
        except BenchError as problem:
            yield f"{name}: {problem}"
            continue
        finally:
            stack.stop()
        groups = {}
        for share, dso, symbol in rows:
            group = time_group(dso, symbol)
            groups[group] = groups.get(group, 0) + share
        yield ""
        yield f"{name}:"
        for group, share in sorted(groups.items(), key=lambda row: -row[1]):
            yield f"  {group:40} {share:7.1%}"
        yield "  the first of them:"
        for share, dso, symbol in rows[:12]:
            yield f"    {short(symbol):60} {os.path.basename(dso):24} {share:7.1%}"


def parse_options(arguments):
    parser = argparse.ArgumentParser(prog="bench/run profile", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", nargs="?", metavar="CELL",
                        help=f"of {', '.join(counts.CELLS)}, flows-N (all)")
    parser.add_argument("--bin", metavar="DIR",
                        default=os.path.join(HERE, "..", "build", "release", "bin"),
                        help="where the programs are (build/release/bin)")
    options = parser.parse_args(arguments)
    options.bin = os.path.abspath(options.bin)
    options.cells = [options.cell] if options.cell else list(counts.CELLS)
    for cell in options.cells:
        if cell not in counts.CELLS and not re.fullmatch(r"flows-[1-9]\d{0,5}", cell):
            parser.error(f"there is no cell {cell}")
    return options


def file_for(cell, options):
    return os.path.abspath(os.path.join(options.bin, "..", "..", "profile", f"{cell}.txt"))


def tell(lines, file):
    for line in lines:
        print(line.rstrip(), flush=True)
        file.write(line.rstrip() + "\n")


def main(arguments):
    inside = INSIDE in arguments
    options = parse_options([argument for argument in arguments if argument != INSIDE])
    if inside:
        topology.set_up_host()
        with open(file_for(options.cell, options), "a", encoding="utf-8") as file:
            tell(call_account(options.cell, options), file)
            tell(time_account(options.cell, options), file)
        return 0
    return next(filter(None, (profile(cell, options) for cell in options.cells)), 0)


def profile(cell, options):
    path = file_for(cell, options)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        tell([f"profile of {cell}", ""], file)
        tell(instruction_account(cell, options), file)
    status = 0
    if cell in counts.CELLS:
        topology.require_programs(["penstock"], options.bin)
        status = topology.run_in_namespaces([sys.executable, os.path.join(HERE, "run"), "profile",
                                             INSIDE, "--bin", options.bin, cell])
    print(f"\nwritten to {os.path.relpath(path)}\n", flush=True)
    return 0 if status == 0 else 1
