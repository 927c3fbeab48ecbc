"""Measures a set of cells on every stack in turn, in interleaved rounds, and prints tables.

A round makes all stacks anew with one MTU and keeps them side by side; then each cell
is measured on one stack after the other, so that what disturbs the machine for a
while disturbs them alike. A cell's figure is the median over the rounds.
"""

import dataclasses
import statistics

import traffic
from topology import BenchError

MTUS = ["1500", "65520"]
WIDTH = 26  # of a table's column


@dataclasses.dataclass
class Plan:
    """What a benchmark measures. A cell is (unit, measure(stack, seconds)); more is better."""

    stacks: dict  # name -> how to make one, from an MTU and the folder of the programs
    bulk_cells: dict
    rate_cells: dict  # counted per second, at the largest MTU only
    directions: tuple  # how the names of bulk cells begin
    cpu_head: str  # of the column with CPU time in those directions

    @property
    def cells(self):
        return {**self.bulk_cells, **self.rate_cells}

    def at(self, mtu, options):
        rates_too = mtu == max(options.mtus, key=int)
        return [cell for cell in options.cells if rates_too or cell in self.bulk_cells]


def add_options(command, a_list, positive, plan, seconds, mtus, cells):
    command.add_argument("--repetitions", type=positive(int), default=3, metavar="N",
                         help="rounds over everything (3)")
    command.add_argument("--seconds", type=positive(float), default=seconds, metavar="N",
                         help=f"measured in each cell, after a warm-up of 0.5 s ({seconds:g})")
    command.add_argument("--mtus", type=a_list(MTUS), default=mtus, metavar="A,B",
                         help=f"of {', '.join(MTUS)} ({','.join(mtus)})")
    command.add_argument("--cells", type=a_list(plan.cells), default=cells, metavar="A,B",
                         help=f"of {', '.join(plan.cells)} ({','.join(cells)}); those counted"
                         " per second run at the largest MTU only")


def number(value):
    if value is None:
        return "failed"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def measure_cell(plan, stack, cell, seconds):
    try:
        return plan.cells[cell][1](stack, seconds)
    except BenchError as problem:
        return {"value": None, "failure": str(problem)}


def measure_round(plan, repetition, mtu, options, results):
    running = []
    try:
        for name in options.stacks:
            running.append(plan.stacks[name](int(mtu), options.bin))
        for cell in plan.at(mtu, options):
            unit = plan.cells[cell][0]
            print(f"round {repetition}/{options.repetitions}  MTU {mtu:5}  {cell:12}", end="",
                  flush=True)
            failures = []
            for stack in running:
                result = measure_cell(plan, stack, cell, options.seconds)
                results.append({"repetition": repetition, "mtu": int(mtu), "cell": cell,
                                "stack": stack.name, "unit": unit, **result})
                print(f"  {stack.name} {number(result['value'])}", end="", flush=True)
                if "failure" in result:
                    failures.append(f"  {stack.name}: {result['failure']}")
                elif result.get("failed") or result.get("unanswered"):
                    failures.append(f"  {stack.name}: {result['failed']} rounds failed,"
                                    f" {result['unanswered']} stood still at the end")
            print(f"  {unit}", *failures, sep="\n" if failures else "")
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


def print_table(plan, mtu, cells, options, summary, results):
    """Medians and ratios of cells that have one unit."""
    if not cells:
        return
    bulk = cells[0] in plan.bulk_cells
    print(f"\nMTU {mtu}, {plan.cells[cells[0]][0]}: median (lowest-highest)")
    print_row("", [*cells, *([plan.cpu_head] if bulk else [])])
    for name in options.stacks:
        fields = []
        for cell in cells:
            figures = summary[mtu, cell, name]
            fields.append("failed" if figures is None else
                          f"{number(figures['median'])} ({number(figures['lowest'])}"
                          f"-{number(figures['highest'])})")
        if bulk:
            fields.append(", ".join(cpu_per_gb(results, mtu, name, direction)
                                    for direction in plan.directions))
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


def print_latencies(plan, options, results):
    rates = [result for result in results
             if result["cell"] in plan.rate_cells and result.get("median_us") is not None]
    cells = [cell for cell in options.cells if cell in plan.rate_cells]
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


def print_unanswered(results):
    """Who left connections without an answer: their rates are those of the others."""
    left = {}
    for result in results:
        if result.get("failed") or result.get("unanswered"):
            left.setdefault((result["cell"], result["stack"]), []).append(result)
    if left:
        print()
    for (cell, stack), rounds in left.items():
        print(f"{stack}: {cell}: in {len(rounds)} rounds,"
              f" {sum(each['failed'] for each in rounds)} connections failed and"
              f" {sum(each['unanswered'] for each in rounds)} had no answer at the end")


def print_verdicts(plan, options, summary):
    """One sentence for each way to run penstock; bulk cells decide."""
    print()
    for name in (name for name in options.stacks if "penstock" in name):
        for kind, cells in (("at least slirp4netns in every cell", plan.bulk_cells),
                            ("and in round trips and connection rates", plan.rate_cells)):
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


def measure(plan, options):
    results = []
    for repetition in range(1, options.repetitions + 1):
        for mtu in options.mtus:
            measure_round(plan, repetition, mtu, options, results)
    summary = summarise(results)
    for mtu in options.mtus:
        for kind in (plan.bulk_cells, plan.rate_cells):
            cells = [cell for cell in plan.at(mtu, options) if cell in kind]
            print_table(plan, int(mtu), cells, options, summary, results)
    print_latencies(plan, options, results)
    print_unanswered(results)
    if "slirp4netns" in options.stacks:
        print_verdicts(plan, options, summary)
    medians = [{"mtu": mtu, "cell": cell, "stack": stack, "unit": plan.cells[cell][0],
                **(figures or {"median": None})}
               for (mtu, cell, stack), figures in summary.items()]
    good = all(result["value"] is not None for result in results
               if "penstock" in result["stack"])
    return {"repetitions": options.repetitions, "seconds": options.seconds,
            "medians": medians, "results": results}, good
