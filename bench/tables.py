"""Tables in the terminal, of benchmarks that rounds.py measures.

The medians of cells with one unit, how they compare, and below them what a cell shows
besides its rate: microseconds, CPU time, memory, connections without an answer.
"""

import figures
from figures import number

WIDTH = 26  # of a column


def row(head, fields):
    print(f"{head:28}" + "".join(f"{field:>{WIDTH}}" for field in fields))


def spread(measured):
    return "failed" if measured is None else (
        f"{number(measured.median)} ({number(measured.lowest)}-{number(measured.highest)})")


def ratios(stacks, cells, results):
    """penstock's lines against everybody else's, in the same repetitions."""
    def show(cell, name, other):
        measured = figures.ratio(*(figures.select(results, cell=cell, stack=each)
                                   for each in (name, other)))
        return "failed" if measured is None else (
            f"x{measured.median:.2f} ({measured.lowest:.2f}-{measured.highest:.2f})")

    others = [name for name in stacks if "penstock" not in name]
    for name in (name for name in stacks if "penstock" in name):
        for other in others:
            row(f"{name} / {other}", [show(cell, name, other) for cell in cells])


def cpu(results, direction):
    measured = figures.spread(figures.values(results, direction, figures.CPU_PER_GB))
    return "-" if measured is None else f"{measured.median:.2f}"


def resident(plan, results):
    """MiB at rest, and the most that a bulk cell has at the end of its window."""
    rest = figures.spread(figures.values(results, figures.REST))
    busy = [figures.spread(figures.values(results, cell, "resident_bytes"))
            for cell in plan.bulk_cells]
    busy = [measured.median / 2**20 for measured in busy if measured is not None]
    return "-" if rest is None else (number(rest.median)
                                     + (f", {number(max(busy))}" if busy else ""))


def of_cells(plan, mtu, cells, results):
    """Medians and ratios of cells that have one unit."""
    stacks = figures.stacks(results)
    bulk = cells[0] in plan.bulk_cells
    print(f"\n{plan.benchmark}, MTU {mtu}, {plan.cells[cells[0]][0]}: median (lowest-highest)")
    costs = ["CPU s/GB, both ways", "MiB at rest, in bulk"] if bulk else []
    row("", [*cells, *costs])
    summary = {(cell, stack): measured
               for (_, _, cell, stack), measured in figures.summarise(results).items()}
    for name in stacks:
        own = figures.select(results, stack=name)
        fields = [spread(summary.get((cell, name))) for cell in cells]
        if bulk:
            fields.append(", ".join(cpu(own, direction) for direction in plan.directions))
            fields.append(resident(plan, own))
        row(name, fields)
    ratios(stacks, cells, results)


def of_rounds(plan, mtu, cells, results):
    """What cells that are counted per second show besides."""
    def median(stack, cell, figure, form):
        measured = figures.spread(
            figures.values(figures.select(results, stack=stack), cell, figure))
        return "-" if measured is None else format(measured.median, form)

    print(f"\n{plan.benchmark}, MTU {mtu}: microseconds, median / 99th percentile; CPU seconds of"
          " the stack for a thousand of them")
    row("", cells)
    for name in figures.stacks(results):
        row(name, [" / ".join(median(name, cell, figure, ".0f")
                              for figure in ("median_us", "p99_us"))
                   + f"; {median(name, cell, 'cpu_per_thousand', '.3f')}" for cell in cells])


def unanswered(results):
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


def show(plan, results):
    for mtu in figures.distinct(results, "mtu"):
        here = figures.select(results, mtu=mtu)
        measured = figures.distinct(here, "cell")
        bulk, rates = ([cell for cell in measured if (cell in plan.bulk_cells) == bulk and
                        cell != figures.REST] for bulk in (True, False))
        if bulk:
            of_cells(plan, mtu, bulk, here)
        if rates:
            of_cells(plan, mtu, rates, here)
            of_rounds(plan, mtu, rates, here)
    unanswered(results)
