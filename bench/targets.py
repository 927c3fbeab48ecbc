"""What penstock is meant to reach, as data, and whether a run shows it.

Each target is a ratio of two medians of one run (or a figure of its own with a limit),
asked of several cells. Missing one fails nothing: a benchmark is no test. But every one
is shown, with its spread: the lowest and the highest of penstock's figures against the
same reference.
"""

import dataclasses

import figures
from topology import PEERS

STACK = "penstock"  # judged in the form that it chooses itself

# What a figure is held against.
BEST_PEER = "best peer"  # by its median
BEST_RUN = "best peer's best run"  # pasta's single uploads stall: its medians say little
LIMIT = "limit"  # nobody: the figure itself

ONE_AND_EIGHT = {"throughput": ("up 1", "down 1", "up 8", "down 8"),
                 "publish": ("to guest 1", "from guest 1", "to guest 8", "from guest 8")}
DIRECTIONS = {"throughput": ("up", "down"), "publish": ("to guest", "from guest")}
BOTH_MTUS = (1500, 65520)


@dataclasses.dataclass(frozen=True)
class Target:
    what: str
    cells: dict  # benchmark -> its cells
    against: str
    at_least: float | None = None  # the ratio's bound; this one or the other
    at_most: float | None = None
    figure: str = "value"
    mtus: tuple = BOTH_MTUS
    unit: str = "×"

    @property
    def wanted(self):
        sign, bound = ("≥", self.at_least) if self.at_most is None else ("≤", self.at_most)
        return f"{sign} ×{bound:g}" if self.unit == "×" else f"{sign} {show(bound, self.unit)}"

    def met(self, value):
        return value >= self.at_least if self.at_most is None else value <= self.at_most


ROUND_TRIPS = {"throughput": ("round trips",), "publish": ("round trips",)}
CLOSES = {"throughput": ("close 1", "close 64"), "publish": ("close 1", "close 64")}

TARGETS = (
    Target("throughput", ONE_AND_EIGHT, BEST_RUN, at_least=1.25),
    Target("throughput", ONE_AND_EIGHT, "slirp4netns", at_least=8, mtus=(1500,)),
    Target("throughput", ONE_AND_EIGHT, "veth", at_least=0.7),
    # Where 0.7 of veth cannot be had with two copies through the kernel.
    Target("throughput", {"throughput": ONE_AND_EIGHT["throughput"]}, "floor", at_least=0.9),
    Target("CPU time per GB", DIRECTIONS, BEST_PEER, at_most=0.25, mtus=(1500,),
           figure=figures.CPU_PER_GB),
    Target("CPU time per GB", DIRECTIONS, BEST_PEER, at_most=1, mtus=(65520,),
           figure=figures.CPU_PER_GB),
    Target("round trip, median", ROUND_TRIPS, BEST_PEER, at_most=0.85, figure="median_us"),
    Target("round trip, 99th percentile", ROUND_TRIPS, BEST_PEER, at_most=0.9,
           figure="p99_us"),
    Target("connect-request-close", CLOSES, BEST_PEER, at_least=1.5),
    Target("UDP flood delivered", {"udp": ("up flood", "down flood")}, BEST_PEER,
           at_least=1.25, mtus=(1500,)),
    # As far as the best peer gets with 20,000 descriptors.
    Target("9,500 idle: opened per second", {"idle": ("opened 9500",)}, BEST_PEER,
           at_least=1, mtus=(1500,)),
    Target("10,000 idle: random round trip against ten", {"idle": ("random 10000",)}, LIMIT,
           at_most=1.2, figure="ratio", mtus=(1500,)),
    Target("10,000 idle: memory of each", {"idle": ("memory 10000",)}, LIMIT, at_most=2048,
           mtus=(1500,), unit=" B"),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One target in one cell. `value` None: penstock has no figure, and `note` says why."""

    target: Target
    benchmark: str
    mtu: int
    cell: str
    value: float | None = None
    lowest: float | None = None
    highest: float | None = None
    peer: str = ""  # whose figure it was held against
    note: str = ""

    @property
    def met(self):
        return self.value is not None and self.target.met(self.value)


def show(value, unit="×"):
    """×1.25, or 1,234 B."""
    if unit == "×":
        return "×∞" if value == float("inf") else f"×{value:.{1 if value >= 10 else 2}f}"
    return f"{value:,.0f}{unit}"


def reference(target, results, cell):
    """(whose, figure) that penstock is held against; None if they were not measured.

    Where all of them failed it is a figure that anything is better than. A rate of some
    connections that leaves others without an answer is none.
    """
    if target.against == LIMIT:
        return "", 1
    best = max if target.at_most is None else min
    peers = PEERS if target.against in (BEST_PEER, BEST_RUN) else (target.against,)
    answered = [result for result in results if not result.get("unanswered")]
    measured = {peer: figures.values(figures.select(answered, stack=peer), cell, target.figure)
                for peer in peers}
    good = {peer: [value for value in values if value is not None]
            for peer, values in measured.items()}
    found = [(best(values) if target.against == BEST_RUN else figures.spread(values).median, peer)
             for peer, values in good.items() if values]
    if not found:
        if not any("failure" in result for peer in peers
                   for result in figures.select(results, stack=peer, cell=cell)):
            return None
        return "nobody", 0 if target.at_most is None else float("inf")
    figure, peer = best(found)
    return peer, figure


def judge(target, results, benchmark, mtu, cell):
    """The row of one cell; None if penstock or who it is held against was not measured."""
    here = figures.select(results, benchmark=benchmark, mtu=mtu)
    measured = figures.values(figures.select(here, stack=STACK), cell, target.figure)
    held_against = reference(target, here, cell)
    if not measured or held_against is None:
        return None
    peer, figure = held_against
    own = figures.spread(measured)
    if own is None:
        return Row(target, benchmark, mtu, cell, peer=peer, note=f"failed in"
                   f" {measured.count(None)} of {len(measured)} rounds")
    middle, lowest, highest = (value / figure if figure else float("inf")
                               for value in (own.median, own.lowest, own.highest))
    return Row(target, benchmark, mtu, cell, middle, lowest, highest, peer)


def evaluate(results):
    """A row for each target in each cell that was measured, in the targets' order."""
    rows = [judge(target, results, benchmark, mtu, cell)
            for target in TARGETS for benchmark, cells in target.cells.items()
            for mtu in target.mtus for cell in cells]
    return [row for row in rows if row is not None]


def worst(rows):
    """Of one target's rows, the one that is furthest from being met."""
    failed = [row for row in rows if row.value is None]
    if failed:
        return failed[0]
    pick = min if rows[0].target.at_most is None else max
    return pick(rows, key=lambda row: row.value)


def as_data(row):
    """For JSON, which knows no endless numbers."""
    value, lowest, highest = (None if figure == float("inf") else figure
                              for figure in (row.value, row.lowest, row.highest))
    return {"target": row.target.what, "against": row.target.against,
            "wanted": row.target.wanted, "benchmark": row.benchmark, "mtu": row.mtu,
            "cell": row.cell, "value": value, "lowest": lowest, "highest": highest,
            "peer": row.peer, "met": row.met, "note": row.note}


def print_rows(rows):
    """All of them, for the terminal."""
    print(f"\ntargets: {sum(row.met for row in rows)} of {len(rows)} met; the ratio of medians,"
          " and in parentheses that of the lowest and the highest figure")
    for row in rows:
        value = row.note if row.value is None else show(row.value, row.target.unit)
        if row.lowest is not None:
            value += (f" ({show(row.lowest, row.target.unit)}"
                      f"-{show(row.highest, row.target.unit)})")
        whom = f"{row.target.against}{f' ({row.peer})' if row.peer else ''}"
        print(f"  {'met   ' if row.met else 'MISSED'} {row.target.what:45} {row.benchmark:10}"
              f" MTU {row.mtu:5} {row.cell:12} {value:28} {row.target.wanted:9} {whom}")
