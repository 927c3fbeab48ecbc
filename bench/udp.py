"""bench/run udp: datagrams between guest and host, on every stack in turn.

The two ends are datagram_bench. Interleaved like rounds.py does it: all stacks of a round
stand side by side, each cell is measured on one after the other. The guest speaks first in
every cell, so nothing is published. A stack that carries no UDP has "no answer", which
fails nothing.
"""

import json
import os

import figures
import tables
import topology
import traffic
from options import a_list, positive
from topology import BenchError, Process

SUMMARY = "UDP: what is delivered and lost at fixed rates and in a flood, round trips"
KNOWN_STACKS = {name: stack for name, stack in topology.STACKS.items() if name != "floor"}
LEGENDS, require_programs = topology.LEGENDS, topology.require_programs
STACKS = ["veth", "slirp4netns", "pasta", "penstock"]
MTU = 1500
GRACE = 10.0
RATES = {"10k": 10_000, "50k": 50_000, "flood": 0}
CELLS = [f"{direction} {rate}" for rate in RATES for direction in ("up", "down")] + ["round trips"]
CELL_OVERHEAD = 0.9  # s, besides the window: the warm-up among it
# --mappings: source ports of the guest in turn, and the rate at which all are used.
FEW_MAPPINGS, MANY_MAPPINGS, MAPPING_RATE = 16, 4_096, 20_000


def add_options(command):
    command.add_argument("--seconds", type=positive(float), default=2.0, metavar="N",
                         help="measured in each cell, after a warm-up of 0.5 s (2)")
    command.add_argument("--bytes", type=positive(int), default=1400, metavar="N",
                         help="of payload in each datagram (1400)")
    command.add_argument("--cells", type=a_list(CELLS), default=CELLS, metavar="A,B",
                         help=f"of {', '.join(CELLS)} (all)")
    command.add_argument("--mappings", action="store_true",
                         help=f"instead: CPU time of a datagram with {MANY_MAPPINGS:,} source"
                         f" ports in turn beside {FEW_MAPPINGS}, on each penstock")


class Ends:
    """datagram_bench at the host's end, and then in the guest."""

    def __init__(self, stack, host, guest):
        program = os.path.join(stack.bin_dir, "datagram_bench")
        self.host = Process([program, *host])
        try:
            port = self.host.line(GRACE).split()[1]
            self.guest = Process(stack.guest.command(
                program, *guest, "--connect", f"{stack.host_address}:{port}"))
        except BaseException:
            self.host.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()
        self.host.stop()


def stream(stack, up, rate, options, sockets=1):
    """Datagrams per second that arrived, the share that was lost, CPU time of the stack."""
    size = ["--bytes", str(options.bytes)]
    watch = traffic.watch(stack)
    sink = ["sink", *size, "--seconds", str(options.seconds), *watch]
    sink += ["--warmup", "0.5" if sockets == 1 else "1.5"]  # all mappings are there before
    source = ["source", *size, "--rate", str(rate), "--sockets", str(sockets)]
    with Ends(stack, *((sink, source) if up else (source, sink))) as ends:
        measuring = ends.host if up else ends.guest
        result = json.loads(measuring.line(options.seconds + GRACE))
    count, lost = result["datagrams"], result["lost"]
    if count == 0:
        raise BenchError("no answer")
    return {"value": count / result["seconds"], "loss": lost / (lost + count),
            "cpu_per_million": result["cpu_seconds"] / count * 1e6 if watch else None}


def measure_cell(stack, cell, options):
    try:
        if cell == "round trips":
            with Ends(stack, ["echo"], ["trips", "--bytes", str(options.bytes), "--seconds",
                                        str(options.seconds)]) as ends:
                result = json.loads(ends.guest.line(options.seconds + GRACE))
            return {"value": result["per_second"], **result}
        direction, rate = cell.split()
        return stream(stack, direction == "up", RATES[rate], options)
    except BenchError as problem:
        said = str(problem)
        return {"value": None, "failure": "no answer" if "no answer" in said else said}


def with_stacks(options, names, body):
    running = []
    try:
        for name in names:
            running.append(topology.STACKS[name](MTU, options.bin))
        return body(running)
    finally:
        for stack in running:
            stack.stop()


def told(result):
    if result["value"] is None:
        return result["failure"]
    loss = f" -{result['loss']:.1%}" if result.get("loss") else ""
    return f"{result['value']:,.0f}{loss}"


def cell_seconds(options):
    return (options.seconds + CELL_OVERHEAD) * len(options.stacks)


def planned_seconds(options):
    """Of one repetition."""
    return 1 if options.mappings else len(options.cells) * cell_seconds(options)


def measure(repetition, options, record):
    """One repetition."""
    if options.mappings:
        return with_stacks(options, [name for name in options.stacks if "penstock" in name],
                           lambda running: measure_mappings(running, repetition, options, record))

    def body(running):
        for cell in options.cells:
            print(f"{record.head()}  udp {repetition}  {cell:12}", end="", flush=True)
            for stack in running:
                result = measure_cell(stack, cell, options)
                record.add("udp", repetition, MTU, cell, stack.name, "1/s", result)
                print(f"  {stack.name} {told(result)}", end="", flush=True)
            print("  1/s")
            record.step(cell_seconds(options))
    return with_stacks(options, options.stacks, body)


def measure_mappings(running, repetition, options, record):
    """CPU time of a datagram with many source ports in turn, over that with few."""
    for stack in running:
        head = f"round {repetition}  {stack.name}:"
        try:
            few, many = (stream(stack, True, MAPPING_RATE, options, sockets)
                         for sockets in (FEW_MAPPINGS, MANY_MAPPINGS))
        except BenchError as problem:
            print(head, "no answer" if "no answer" in str(problem) else problem)
            continue
        record.add("udp", repetition, MTU, "mappings", stack.name, "x",
                   {"value": many["cpu_per_million"] / few["cpu_per_million"]})
        print(head, f"CPU s per million: {few['cpu_per_million']:.2f} with {FEW_MAPPINGS},"
              f" {many['cpu_per_million']:.2f} with {MANY_MAPPINGS:,} (lost {few['loss']:.1%},"
              f" {many['loss']:.1%})", flush=True)


def fields(results, cells, form, figure="value"):
    """For each cell: what `form` makes of the spread of a figure over the repetitions."""
    for cell in cells:
        measured = figures.spread(figures.values(results, cell, figure))
        yield "-" if measured is None else form(measured)


def show(results):
    """Prints tables. What is lost or not carried fails nothing."""
    stacks, cells = figures.stacks(results), figures.distinct(results, "cell")
    if cells == ["mappings"]:
        for name in stacks:
            ratios = figures.spread(figures.values(figures.select(results, stack=name), "mappings"))
            print(f"{name}: a datagram with {MANY_MAPPINGS:,} mappings in turn costs"
                  f" x{ratios.median:.2f} ({ratios.lowest:.2f}-{ratios.highest:.2f})")
        return True
    own = {name: figures.select(results, stack=name) for name in stacks}
    streams = [cell for cell in cells if cell != "round trips"]
    print(f"\nudp, MTU {MTU}, datagrams per second that arrived: median (lowest-highest)")
    tables.row("", cells)
    for name in stacks:
        tables.row(name, fields(own[name], cells, tables.spread))
    tables.ratios(stacks, cells, results)
    for what, figure, form in (("lost", "loss", lambda measured: f"{measured.median:.1%}"),
                               ("CPU seconds of the stack for a million that arrived",
                                "cpu_per_million", lambda measured: f"{measured.median:.2f}")):
        print(f"\nudp: {what}: median")
        tables.row("", streams)
        for name in stacks:
            tables.row(name, fields(own[name], streams, form, figure))
    if "round trips" in cells:
        print("\nudp: round trips, microseconds: median / 99th percentile")
        for name in stacks:
            tables.row(name, [" / ".join(
                next(fields(own[name], ["round trips"], lambda measured: f"{measured.median:.0f}",
                            figure)) for figure in ("median_us", "p99_us"))])
    return True
