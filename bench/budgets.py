"""bench/run budgets: counts that do not depend on the machine, held against bench/budgets.json.

    budgets                  all of them
    budgets instructions     of a deterministic program, under callgrind
    budgets calls            system calls, wake-ups and allocations of the real penstock
    budgets --update         writes what was measured, and ceilings a little above

Exit status 1 if a count is above its ceiling. How each is counted and why its margin is what
it is: bench/README.md.
"""

import argparse
import datetime
import json
import os
import sys

import callgrind
import counts
import topology
from topology import BenchError

HERE = os.path.dirname(os.path.abspath(__file__))
FILE = os.path.join(HERE, "budgets.json")
INSIDE = "--inside-namespaces"
KINDS = ("instructions", "calls")
# This far below its ceiling a count says that somebody made it better.
LOW = 0.85

CALLGRIND = "count_bench {cell} under callgrind, instructions / units"
PRELOAD = ("penstock --relay-threads {threads} on a tap, traffic_bench, all on one core;"
           " counted by calls_preload.cc")
COUNTS = {
    "system-calls": ("system calls", counts.Counts.system_calls),
    "wake-ups": ("wake-ups", counts.Counts.wake_ups),
    "allocations": ("allocations", counts.Counts.allocations),
}
STRETCHES = 4  # of a cell, for the least of them
# Of what timing changes, the margin is several times what was seen between runs.
MARGIN_INSTRUCTIONS = 0.03
MARGIN_CALLS = {"round-trips": 0.15, "connects": 0.20, "up": 0.40, "down": 0.50}
MARGINS = {("up", "allocations"): 0.60}  # few: the ACKs' segments


class Budget:
    def __init__(self, what, unit, margin, how, look):
        self.what = what
        self.unit = unit
        self.margin = margin
        self.how = how
        self.look = look  # the command that shows where the count comes from


def instruction_budgets():
    budgets = {}
    for cell, what, unit in (
            ("round-trips", "one byte there and back on one connection", "round trip"),
            ("up", "bulk data from guest to host in super-segments, MTU 1500", "MiB"),
            ("down", "bulk data from host to guest in super-segments, MTU 1500", "MiB"),
            ("connects", "connect, a byte there and back, close", "connection"),
            ("udp-up", "datagrams of 1,400 bytes to host, 32 at once", "datagram"),
            ("udp-down", "datagrams of 1,400 bytes to guest, 32 at once", "datagram")):
        budgets[f"{cell}/instructions"] = Budget(
            what, f"instructions / {unit}", MARGIN_INSTRUCTIONS, CALLGRIND.format(cell=cell),
            f"./tools/dev profile {cell}")
    budgets["flows/growth"] = Budget(
        "a packet's instructions where 10,000 connections take turns, against 10", "ratio",
        MARGIN_INSTRUCTIONS, "count_bench flows-10 flows-10000 under callgrind",
        "./tools/dev profile flows-10000")
    return budgets


def call_budgets():
    budgets = {}
    for cell, counted in (("round-trips", ("system-calls", "wake-ups", "allocations")),
                          ("up", ("system-calls", "allocations")),
                          ("down", ("system-calls", "allocations")),
                          ("connects", ("system-calls", "wake-ups", "allocations"))):
        for count in counted:
            for threads, stack in enumerate(counts.STACKS):
                budgets[f"{cell}/{count}/{stack}"] = Budget(
                    f"{COUNTS[count][0]}, {threads} relay threads",
                    f"{COUNTS[count][0]} / {counts.CELLS[cell].unit}",
                    MARGINS.get((cell, count), MARGIN_CALLS[cell]),
                    PRELOAD.format(threads=threads), f"./tools/dev profile {cell}")
    return budgets


def measure_instructions(options):
    cells = ["round-trips", "up", "down", "connects", "udp-up", "udp-down", "flows-10",
             "flows-10000"]
    profiles = callgrind.run(options.bin, cells)
    values = {f"{cell}/instructions": profiles[cell].per_unit() for cell in cells[:6]}
    few, many = (profiles[cell].instructions / profiles[cell].packets for cell in cells[6:])
    values["flows/growth"] = many / few
    return values


def measure_calls(options):
    """In the host's namespaces, on one core: who runs when is then nearly the same each time.
    What else runs there makes batches shorter, so of several stretches the least counts."""
    topology.set_up_host()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    values = {}
    for name, kind in counts.STACKS.items():
        stack = kind(counts.MTU, options.bin)
        try:
            for cell in MARGIN_CALLS:
                parts = list(counts.stretches(stack, counts.CELLS[cell], STRETCHES))
                for count, (_, total) in COUNTS.items():
                    values[f"{cell}/{count}/{name}"] = min(total(counted) / units
                                                           for counted, units, _ in parts)
        finally:
            stack.stop()
    return values


def significant(value):
    """Four digits: no more is meant."""
    rounded = float(f"{value:.4g}")
    return int(rounded) if rounded >= 1000 else rounded


def text(value):
    return "none" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def compare(budgets, values, known):
    """Prints a table; the lines about those that are not as they should be."""
    over, low = [], []
    print(f"{'budget':36} {'counted':>10} {'ceiling':>10}   unit")
    for name, budget in budgets.items():
        value, entry = values[name], known.get(name)
        ceiling = entry["ceiling"] if entry else None
        mark = ""
        if ceiling is None:
            over.append(f"{name} has no ceiling yet: ./tools/dev bench budgets --update")
        elif value > ceiling:
            mark = "  OVER"
            over.append(f"{name} is over its budget: {text(value)} {budget.unit}, the ceiling"
                        f" is {text(ceiling)} ({value / ceiling - 1:+.1%}); it was"
                        f" {text(entry['measured'])} when set.\n  {budget.what}; {budget.how}.\n"
                        f"  Where it comes from: {budget.look}")
        elif value < ceiling / (1 + entry["margin"]) * LOW:
            mark = "  low"
            low.append(f"{name} is far under its budget: {text(value)} of {text(ceiling)}. Lower"
                       " the ceiling: ./tools/dev bench budgets --update")
        print(f"{name:36} {text(value):>10} {text(ceiling):>10}   {budget.unit}{mark}")
    for line in over + low:
        print(f"\n{line}")
    return not over


def update(budgets, values, known):
    """`known` with new ceilings for what was measured."""
    today = datetime.date.today().isoformat()
    for name, budget in budgets.items():
        value = values[name]
        known[name] = {"what": budget.what, "unit": budget.unit,
                       "ceiling": significant(value * (1 + budget.margin)),
                       "measured": significant(value), "margin": budget.margin, "set": today,
                       "how": budget.how}
    order = [*instruction_budgets(), *call_budgets()]
    entries = {name: known[name] for name in order if name in known}
    with open(FILE, "w", encoding="utf-8") as file:
        json.dump({"about": "Ceilings on counts that do not depend on the machine; ./tools/dev"
                            " bench budgets compares, --update writes. See bench/README.md.",
                   "budgets": entries}, file, indent=1)
        file.write("\n")


def parse_options(arguments):
    parser = argparse.ArgumentParser(prog="bench/run budgets", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="*", metavar="KIND",
                        help=f"of {', '.join(KINDS)} (all)")
    parser.add_argument("--update", action="store_true", help="write bench/budgets.json")
    parser.add_argument("--bin", metavar="DIR",
                        default=os.path.join(HERE, "..", "build", "release", "bin"),
                        help="where the programs are (build/release/bin)")
    options = parser.parse_args(arguments)
    for kind in options.kind:
        if kind not in KINDS:
            parser.error(f"{kind} is none of {', '.join(KINDS)}")
    options.kind = options.kind or list(KINDS)
    options.bin = os.path.abspath(options.bin)
    return options


def main(arguments):
    inside = INSIDE in arguments
    options = parse_options([argument for argument in arguments if argument != INSIDE])
    if inside:
        options.kind = ["calls"]
    with open(FILE, encoding="utf-8") as file:
        known = json.load(file)["budgets"]
    good = True
    if "instructions" in options.kind:
        good &= judge(instruction_budgets(), measure_instructions(options), known, options)
    if "calls" in options.kind and inside:
        good &= judge(call_budgets(), measure_calls(options), known, options)
    elif "calls" in options.kind:
        topology.require_programs(["penstock"], options.bin)
        sys.stdout.flush()
        status = topology.run_in_namespaces(
            [sys.executable, os.path.join(HERE, "run"), "budgets", INSIDE, *arguments])
        good &= status == 0
    return 0 if good else 1


def judge(budgets, values, known, options):
    if options.update:
        update(budgets, values, known)
    good = compare(budgets, values, known)
    print(flush=True)
    return good
