"""Measures a set of cells on every stack in turn.

A round makes all stacks anew with one MTU and keeps them side by side; then each cell
is measured on one stack after the other (round trips in slices, in turn), so that what
disturbs the machine for a while disturbs them alike. A repetition is one round with each
MTU. What is printed of the results: tables.py.
"""

import dataclasses
import functools

import figures
import tables
import traffic
from figures import number
from options import a_list, positive
from topology import BenchError

MTUS = ["1500", "9000", "65520"]
STREAMS = (1, 8, 64)
# What comes with a cell and with a stack besides the window: measured, for the estimate.
CELL_OVERHEAD, STACK_OVERHEAD = 0.9, 0.7


def in_turn(measure):
    """A cell of what is measured on one stack: on one after the other."""
    def measure_all(stacks, seconds):
        for stack in stacks:
            try:
                yield stack, measure(stack, seconds=seconds)
            except BenchError as problem:
                yield stack, {"value": None, "failure": str(problem)}

    return measure_all


def bulk_cells(to_listener, from_listener):
    """One and many streams in the two directions that have these names."""
    return {f"{direction} {streams}": ("Gbit/s", in_turn(functools.partial(
                traffic.bulk, to_listener=direction == to_listener, streams=streams)))
            for streams in STREAMS for direction in (to_listener, from_listener)}


# 64 at once come last: a stack that leaves some without an answer may be busy with them
# for a while.
RATE_CELLS = {
    "round trips": ("1/s", traffic.round_trips),
    "close 1": ("1/s", in_turn(functools.partial(traffic.close_rounds, parallel=1))),
    "close 64": ("1/s", in_turn(functools.partial(traffic.close_rounds, parallel=64))),
}


@dataclasses.dataclass
class Plan:
    """A benchmark. A cell is (unit, measure); more is better. measure(stacks, seconds) yields
    each stack and its result, as they come."""

    benchmark: str
    stacks: dict  # name -> how to make one, from an MTU and the folder of the programs
    directions: tuple  # to the listening end, and from it
    # Unless told otherwise:
    seconds: float
    mtus: list
    chosen: list  # cells

    def __post_init__(self):
        self.bulk_cells = bulk_cells(*self.directions)
        self.cells = {**self.bulk_cells, **RATE_CELLS}

    def add_options(self, command):
        command.add_argument("--seconds", type=positive(float), default=self.seconds,
                             metavar="N", help="measured in each cell, after a warm-up of 0.5 s"
                             f" ({self.seconds:g})")
        command.add_argument("--mtus", type=a_list(MTUS), default=self.mtus, metavar="A,B",
                             help=f"of {', '.join(MTUS)} ({','.join(self.mtus)})")
        command.add_argument("--cells", type=a_list(self.cells), default=self.chosen,
                             metavar="A,B", help=f"of {', '.join(self.cells)}"
                             f" ({','.join(self.chosen)})")
        command.add_argument("--rate-mtus", type=a_list(MTUS), metavar="A,B",
                             help="at which of the MTUs those cells run that are counted per"
                             " second (the largest)")

    def at(self, mtu, options):
        """The cells of a round."""
        rates_too = mtu in (options.rate_mtus or [max(options.mtus, key=int)])
        return [cell for cell in options.cells if rates_too or cell in self.bulk_cells]

    def planned_seconds(self, options):
        """Of one repetition."""
        return sum(len(options.stacks) * STACK_OVERHEAD
                   + len(self.at(mtu, options)) * cell_seconds(options) for mtu in options.mtus)

    def measure(self, repetition, options, record):
        """One repetition."""
        for mtu in options.mtus:
            running = []
            try:
                for name in options.stacks:
                    running.append(self.stacks[name](int(mtu), options.bin))
                record.step(len(running) * STACK_OVERHEAD)
                self.measure_round(running, repetition, mtu, options, record)
            finally:
                for stack in running:
                    stack.stop()

    def measure_round(self, running, repetition, mtu, options, record):
        for stack in running:
            if stack.pids():
                record.add(self.benchmark, repetition, int(mtu), figures.REST, stack.name, "MiB",
                           {"value": stack.resident_bytes() / 2**20})
        for cell in self.at(mtu, options):
            unit, measure = self.cells[cell]
            print(f"{record.head()}  {self.benchmark} {repetition}  MTU {mtu:5}  {cell:12}",
                  end="", flush=True)
            problems = []
            for stack, result in measure(running, options.seconds):
                record.add(self.benchmark, repetition, int(mtu), cell, stack.name, unit, result)
                print(f"  {stack.name} {number(result['value'])}", end="", flush=True)
                if "failure" in result:
                    problems.append(f"  {stack.name}: {result['failure']}")
                elif result.get("failed") or result.get("unanswered"):
                    problems.append(f"  {stack.name}: {result['failed']} rounds failed,"
                                    f" {result['unanswered']} stood still at the end")
            print(f"  {unit}", *problems, sep="\n" if problems else "")
            record.step(cell_seconds(options))

    def show(self, results):
        """Prints tables; whether penstock failed nowhere."""
        tables.show(self, results)
        return all(result["value"] is not None for result in results
                   if "penstock" in result["stack"])


def cell_seconds(options):
    return (options.seconds + CELL_OVERHEAD) * len(options.stacks)
