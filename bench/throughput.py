"""bench/run throughput: every stack in turn, cell by cell, in interleaved rounds.

A round makes all stacks anew with one MTU and keeps them side by side; then each cell
is measured on one stack after the other, so that what disturbs the machine for a
while disturbs them alike. A cell's figure is the median over the rounds.
"""

import statistics

import traffic
from topology import STACKS as ALL_STACKS
from topology import BenchError

SUMMARY = "bulk rates, round trips and connection rates of all stacks"
STACKS = ["veth", "slirp4netns", "pasta", "penstock-r0", "penstock-r1"]
MTUS = ["1500", "65520"]

# name -> (unit, measure(stack, seconds)); more is better in each of them.
BULK_CELLS = {
    "up 1": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, True, 1, seconds)),
    "down 1": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, False, 1, seconds)),
    "up 8": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, True, 8, seconds)),
    "down 8": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, False, 8, seconds)),
}
RATE_CELLS = {
    "round trips": ("1/s", traffic.round_trips),
    "close 1": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 1, seconds)),
    "close 64": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 64, seconds)),
}
CELLS = {**BULK_CELLS, **RATE_CELLS}

WIDTH = 22  # of a table's column


def add_options(command, a_list, positive):
    command.add_argument("--repetitions", type=positive(int), default=3, metavar="N",
                         help="rounds over everything (3)")
    command.add_argument("--seconds", type=positive(float), default=2.0, metavar="N",
                         help="measured in each cell, after a warm-up of 0.5 s (2)")
    command.add_argument("--mtus", type=a_list(MTUS), default=MTUS, metavar="A,B",
                         help="of 1500, 65520 (both)")
    command.add_argument("--cells", type=a_list(CELLS), default=list(CELLS), metavar="A,B",
                         help=f"of {', '.join(CELLS)} (all); those counted per second run at"
                         " the largest MTU only")


def cells_at(mtu, options):
    rates_too = mtu == max(options.mtus, key=int)
    return [cell for cell in options.cells if rates_too or cell in BULK_CELLS]


def number(value):
    if value is None:
        return "failed"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def measure_cell(stack, cell, seconds):
    try:
        return CELLS[cell][1](stack, seconds)
    except BenchError as problem:
        return {"value": None, "failure": str(problem)}


def measure_round(repetition, mtu, options, results):
    running = []
    try:
        for name in options.stacks:
            running.append(ALL_STACKS[name](int(mtu), options.bin))
        for cell in cells_at(mtu, options):
            print(f"round {repetition}/{options.repetitions}  MTU {mtu:5}  {cell:11}", end="",
                  flush=True)
            failures = []
            for stack in running:
                result = measure_cell(stack, cell, options.seconds)
                results.append({"repetition": repetition, "mtu": int(mtu), "cell": cell,
                                "stack": stack.name, "unit": CELLS[cell][0], **result})
                print(f"  {stack.name} {number(result['value'])}", end="", flush=True)
                if "failure" in result:
                    failures.append(f"  {stack.name}: {result['failure']}")
                elif result.get("failed") or result.get("unanswered"):
                    failures.append(f"  {stack.name}: {result['failed']} rounds failed,"
                                    f" {result['unanswered']} stood still at the end")
            print(f"  {CELLS[cell][0]}", *failures, sep="\n" if failures else "")
    finally:
        for stack in running:
            stack.stop()


def summarise(results):
    """(mtu, cell, stack) -> median, lowest, highest; None where a round failed."""
    gathered = {}
    for result in results:
        key = (result["mtu"], result["cell"], result["stack"])
        gathered.setdefault(key, []).append(result["value"])
    return {key: None if None in values else
            {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
            for key, values in gathered.items()}


def cpu_per_gb(results, mtu, stack, direction):
    """Over all bulk cells of a direction together: long runs say more than medians."""
    used = [result for result in results
            if result["mtu"] == mtu and result["stack"] == stack
            and result["cell"].startswith(direction) and result.get("cpu_seconds") is not None]
    moved = sum(result["bytes"] for result in used)
    if not moved:
        return "-"
    return f"{sum(result['cpu_seconds'] for result in used) / moved * traffic.CPU_BYTES:.2f}"


def print_row(head, fields):
    print(f"{head:28}" + "".join(f"{field:>{WIDTH}}" for field in fields))


def print_table(mtu, cells, options, summary, results):
    """Medians and ratios of cells that have one unit."""
    if not cells:
        return
    bulk = cells[0] in BULK_CELLS
    print(f"\nMTU {mtu}, {CELLS[cells[0]][0]}: median (lowest-highest)")
    print_row("", [*cells, *(["CPU s/GB up, down"] if bulk else [])])
    for name in options.stacks:
        fields = []
        for cell in cells:
            figures = summary[mtu, cell, name]
            fields.append("failed" if figures is None else
                          f"{number(figures['median'])} ({number(figures['lowest'])}"
                          f"-{number(figures['highest'])})")
        if bulk:
            fields.append(", ".join(cpu_per_gb(results, mtu, name, direction)
                                    for direction in ("up", "down")))
        print_row(name, fields)
    print_ratios(mtu, cells, options, summary)


def ratio(summary, mtu, cell, over, under):
    """Of medians. None if the upper one failed; endless if only the lower one did."""
    upper, lower = summary[mtu, cell, over], summary[mtu, cell, under]
    if upper is None:
        return None
    if lower is None or lower["median"] == 0:
        return float("inf")
    return upper["median"] / lower["median"]


def print_ratios(mtu, cells, options, summary):
    peers = [name for name in options.stacks if "penstock" not in name]
    for name in (name for name in options.stacks if "penstock" in name):
        for peer in peers:
            ratios = [ratio(summary, mtu, cell, name, peer) for cell in cells]
            print_row(f"{name} / {peer}",
                      ["failed" if value is None else f"x{value:.2f}" for value in ratios])


def print_latencies(options, results):
    rates = [result for result in results
             if result["cell"] in RATE_CELLS and result.get("median_us") is not None]
    cells = [cell for cell in options.cells if cell in RATE_CELLS]
    if not rates:
        return
    print(f"\nMTU {max(options.mtus, key=int)}: microseconds, median / 99th percentile"
          " (each the median over the rounds)")
    print_row("", cells)
    for name in options.stacks:
        fields = []
        for cell in cells:
            mine = [r for r in rates if r["stack"] == name and r["cell"] == cell]
            fields.append(" / ".join(
                f"{statistics.median(result[key] for result in mine):.0f}"
                for key in ("median_us", "p99_us")) if mine else "failed")
        print_row(name, fields)


def print_verdicts(options, summary):
    """One sentence for each way to run penstock; bulk cells decide."""
    print()
    for name in (name for name in options.stacks if "penstock" in name):
        for kind, cells in (("at least slirp4netns in every cell", BULK_CELLS),
                            ("and in round trips and connection rates", RATE_CELLS)):
            compared = [(mtu, cell) for mtu, cell, stack in summary
                        if stack == name and cell in cells]
            if not compared:
                continue
            slower = []
            for mtu, cell in compared:
                value = ratio(summary, mtu, cell, name, "slirp4netns")
                if value is None or value < 1:
                    slower.append(f"MTU {mtu} {cell} "
                                  + ("failed" if value is None else f"x{value:.2f}"))
            print(f"{name}: {kind}: " + (f"no ({', '.join(slower)})" if slower else "yes"))


def measure(options):
    results = []
    for repetition in range(1, options.repetitions + 1):
        for mtu in options.mtus:
            measure_round(repetition, mtu, options, results)
    summary = summarise(results)
    for mtu in options.mtus:
        for kind in (BULK_CELLS, RATE_CELLS):
            cells = [cell for cell in cells_at(mtu, options) if cell in kind]
            print_table(int(mtu), cells, options, summary, results)
    print_latencies(options, results)
    if "slirp4netns" in options.stacks:
        print_verdicts(options, summary)
    medians = [{"mtu": mtu, "cell": cell, "stack": stack, "unit": CELLS[cell][0],
                **(figures or {"median": None})}
               for (mtu, cell, stack), figures in summary.items()]
    good = all(result["value"] is not None for result in results
               if "penstock" in result["stack"])
    return {"repetitions": options.repetitions, "seconds": options.seconds,
            "medians": medians, "results": results}, good
