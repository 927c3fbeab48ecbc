"""bench/run udp: datagrams between guest and host, on every stack in turn.

The two ends are datagram_bench. Interleaved like rounds.py does it: all stacks of a round
stand side by side, each cell is measured on one after the other. The guest speaks first in
every cell, so nothing is published. A stack that carries no UDP has "no answer", which
fails nothing.
"""

import json
import os
import statistics

import topology
from topology import BenchError, Process

SUMMARY = "UDP: what is delivered and lost at fixed rates and in a flood, round trips"
KNOWN_STACKS = topology.STACKS
STACKS = list(topology.STACKS)
MTU = 1500
GRACE = 10.0
RATES = {"10k": 10_000, "50k": 50_000, "flood": 0}
CELLS = [f"{direction} {rate}" for rate in RATES for direction in ("up", "down")] + ["round trips"]
WIDTH = 36
# --mappings: source ports of the guest in turn, and the rate at which all are used.
FEW_MAPPINGS, MANY_MAPPINGS, MAPPING_RATE = 16, 4_096, 20_000


def add_options(command, a_list, positive):
    command.add_argument("--repetitions", type=positive(int), default=3, metavar="N",
                         help="rounds over everything (3)")
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
    watch = ",".join(str(pid) for pid in stack.pids())
    sink = ["sink", *size, "--seconds", str(options.seconds)]
    sink += ["--warmup", "0.5" if sockets == 1 else "1.5"]  # all mappings are there before
    if watch:
        sink += ["--watch", watch]
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


def figure(result):
    if result["value"] is None:
        return result["failure"]
    loss = f" -{result['loss']:.1%}" if result.get("loss") else ""
    return f"{result['value']:,.0f}{loss}"


def measure_round(repetition, options, results):
    def body(running):
        for cell in options.cells:
            print(f"round {repetition}/{options.repetitions}  {cell:12}", end="", flush=True)
            for stack in running:
                result = measure_cell(stack, cell, options)
                results.append({"repetition": repetition, "cell": cell, "stack": stack.name,
                                **result})
                print(f"  {stack.name} {figure(result)}", end="", flush=True)
            print("  1/s")
    with_stacks(options, options.stacks, body)


def of(results, stack, cell, key):
    """The figures of all rounds; none if one has no answer."""
    mine = [result.get(key) for result in results
            if result["stack"] == stack and result["cell"] == cell]
    return [] if None in mine else mine


def print_row(head, fields):
    print(f"{head:28}" + "".join(f"{field:>{WIDTH}}" for field in fields))


def median_of(results, stack, cell, key):
    values = of(results, stack, cell, key)
    return statistics.median(values) if values else None


def print_rates(options, results, cells):
    print("\ndatagrams per second that arrived: median (lowest-highest), lost")
    print_row("", cells)
    for name in options.stacks:
        fields = []
        for cell in cells:
            values = of(results, name, cell, "value")
            fields.append(f"{statistics.median(values):,.0f} ({min(values):,.0f}"
                          f"-{max(values):,.0f})"
                          + ("" if cell == "round trips" else
                             f" {median_of(results, name, cell, 'loss'):.1%}")
                          if values else "no answer")
        print_row(name, fields)
    for name in (name for name in options.stacks if "penstock" in name):
        for peer in (peer for peer in options.stacks if "penstock" not in peer):
            fields = []
            for cell in cells:
                mine, theirs = (median_of(results, who, cell, "value") for who in (name, peer))
                fields.append(f"x{mine / theirs:.2f}" if mine and theirs else "-")
            print_row(f"{name} / {peer}", fields)


def print_costs(options, results, cells):
    print("\nCPU seconds of the stack for a million datagrams that arrived: median")
    print_row("", cells)
    for name in options.stacks:
        costs = [median_of(results, name, cell, "cpu_per_million") for cell in cells]
        print_row(name, ["-" if cost is None else f"{cost:.2f}" for cost in costs])


def print_latencies(options, results):
    print("\nround trips, microseconds: median / 99th percentile (each the median over rounds)")
    for name in options.stacks:
        median, p99 = (median_of(results, name, "round trips", key)
                       for key in ("median_us", "p99_us"))
        print_row(name, ["no answer" if median is None else f"{median:.0f} / {p99:.0f}"])


def measure_mappings(options):
    """CPU time of a datagram with many source ports in turn, over that with few."""
    names = [name for name in options.stacks if "penstock" in name]
    ratios = {name: [] for name in names}

    def body(running):
        for repetition in range(1, options.repetitions + 1):
            for stack in running:
                line = f"round {repetition}/{options.repetitions}  {stack.name}:"
                try:
                    few, many = (stream(stack, True, MAPPING_RATE, options, sockets)
                                 for sockets in (FEW_MAPPINGS, MANY_MAPPINGS))
                except BenchError as problem:
                    print(line, "no answer" if "no answer" in str(problem) else problem)
                    continue
                ratios[stack.name].append(many["cpu_per_million"] / few["cpu_per_million"])
                print(line, f"CPU s per million: {few['cpu_per_million']:.2f} with {FEW_MAPPINGS},"
                      f" {many['cpu_per_million']:.2f} with {MANY_MAPPINGS:,} (lost"
                      f" {few['loss']:.1%}, {many['loss']:.1%})", flush=True)
    with_stacks(options, names, body)
    for name, values in ratios.items():
        print(f"{name}: a datagram with {MANY_MAPPINGS:,} mappings in turn costs "
              + (f"x{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
                 if values else "no answer"))
    return {"mappings": ratios}, True


def measure(options):
    if options.mappings:
        return measure_mappings(options)
    results = []
    for repetition in range(1, options.repetitions + 1):
        measure_round(repetition, options, results)
    streams = [cell for cell in options.cells if cell != "round trips"]
    print_rates(options, results, options.cells)
    if streams:
        print_costs(options, results, streams)
    if "round trips" in options.cells:
        print_latencies(options, results)
    return {"repetitions": options.repetitions, "seconds": options.seconds,
            "bytes": options.bytes, "results": results}, True
