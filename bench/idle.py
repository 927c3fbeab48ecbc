"""bench/run idle: what many idle connections cost a stack, in memory and in time.

Two of each stack run side by side, one that keeps a few connections and one that gets
more and more. The memory is that of the second, against what it held with the few.
Round trips are measured on both in turns, so that a change of the machine's speed meets
both: on one connection, and on those that chance chooses.

All processes share one core unless --placement free: a round trip then is the sum of
the work that it makes, and the ratio says how that work grows. Spread over cores, a
round trip is mostly the time to wake another core, which hides the stack's share, and
changes several-fold with where the scheduler puts the processes.

Guest and server hold one descriptor for each connection, each in a process of its own as
the stack is, and each process may have so many as the hard limit allows: 20,000 on some machines
are enough for 16,000 connections. A stack that fails at a count is not asked for more; pasta
has two descriptors for each and ends before 10,000.
"""

import contextlib
import os
import resource
import statistics
import time

import figures
import tables
import topology
import traffic
from options import a_list, positive
from topology import STACKS as ALL_STACKS
from topology import BenchError

SUMMARY = "resident memory and round trips beside many idle connections"
STACKS = ["veth", "slirp4netns", "pasta", "penstock"]
KNOWN_STACKS = {name: stack for name, stack in ALL_STACKS.items() if name != "floor"}
LEGENDS, require_programs = topology.LEGENDS, topology.require_programs
FEW = 10
# 9,500: pasta has two descriptors for each connection.
COUNTS = ["1000", "9500", "10000", "16000"]
DESCRIPTORS_BESIDE = 300  # that a process has open besides its connections, at most
TURNS = 3
MTU = 1500
# For the estimate: a stack with its guests, and what a slow one needs for 1,000 connections.
STACK_OVERHEAD, OPENING_SECONDS = 3.0, 2.0


def add_options(command):
    command.add_argument("--connections", type=a_list(COUNTS), default=COUNTS,
                         metavar="A,B", help=f"idle ones besides {FEW}: of {', '.join(COUNTS)}")
    command.add_argument("--seconds", type=positive(float), default=0.3, metavar="N",
                         help=f"of each of {TURNS} measurements of round trips (0.3)")
    command.add_argument("--placement", choices=("one-core", "free"), default="one-core",
                         help="where guest, stack and server run (one-core)")


def stack_seconds(options):
    counts = [int(count) for count in options.connections]
    trips = (len(counts) + 1) * 2 * 2 * TURNS * options.seconds
    return STACK_OVERHEAD + trips + max(counts) / 1000 * OPENING_SECONDS + len(counts)


def planned_seconds(options):
    """Of one repetition."""
    return len(options.stacks) * stack_seconds(options)


def resident_at_rest(stack):
    """Resident memory once two looks, a quarter of a second apart, agree."""
    before = stack.resident_bytes()
    for _ in range(20):
        time.sleep(0.25)
        now = stack.resident_bytes()
        if now == before:
            break
        before = now
    return before


def round_trips(which, few, many, options):
    """The medians over the turns, of a connection among many and of one among few."""
    turns = [[talk.ping(which, options.seconds) for talk in (few, many)] for _ in range(TURNS)]
    beside_few, beside_many = ([turn[i]["median_us"] for turn in turns] for i in (0, 1))
    return {"value": statistics.median(beside_many), "few_us": statistics.median(beside_few),
            "p99_us": statistics.median(turn[1]["p99_us"] for turn in turns),
            "ratio": statistics.median(mine / theirs for mine, theirs
                                       in zip(beside_many, beside_few))}


class Pair:
    """Two of one stack, with their connections: what is measured, count after count."""

    def __init__(self, stack, few, many, options):
        self.stack, self.few, self.many, self.options = stack, few, many, options
        for talk in (few, many):
            talk.open(FEW)
            talk.ping("one", 0.2)  # a warm-up
        self.resident_few = resident_at_rest(stack)
        self.opening_seconds = 0.0
        self.open = FEW

    def grow(self, count):
        """(cell, unit, result) of the opening and of what the connections hold."""
        opened = self.many.open(count)
        self.opening_seconds += (count - self.open) / opened["opened_per_second"]
        self.open = count
        yield f"opened {count}", "1/s", {"value": (count - FEW) / self.opening_seconds}
        resident = resident_at_rest(self.stack)
        if self.stack.pids():
            yield f"memory {count}", "B", {
                "value": (resident - self.resident_few) / (count - FEW),
                "resident_bytes": resident}

    def trips(self):
        for which in ("one", "random"):
            yield f"{which} {self.open}", "us", round_trips(which, self.few, self.many,
                                                            self.options)


def measure_stack(name, repetition, options, record):
    print(f"{record.head()}  idle {repetition}  {name}:", end="", flush=True)
    count = FEW

    def keep(measured):
        for cell, unit, result in measured:
            record.add("idle", repetition, MTU, cell, name, unit, result)
            print(f"  {cell} {figures.number(result['value'])} {unit}", end="", flush=True)

    with contextlib.ExitStack() as ends:
        try:
            stacks = []
            for _ in range(2):
                stacks.append(ALL_STACKS[name](MTU, options.bin))
                ends.callback(stacks[-1].stop)
            few, many = (ends.enter_context(traffic.Talk(stack)) for stack in stacks)
            pair = Pair(stacks[1], few, many, options)
            keep(pair.trips())
            for count in sorted(int(count) for count in options.connections):
                keep(pair.grow(count))
                keep(pair.trips())
        except BenchError as problem:
            print(f"\n  {name}: {problem}", end="")
            record.add("idle", repetition, MTU, f"opened {count}", name, "1/s",
                       {"value": None, "failure": str(problem)})
    print()
    record.step(stack_seconds(options))


def measure(repetition, options, record):
    """One repetition."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(int(count) for count in options.connections) + DESCRIPTORS_BESIDE
    if limit != resource.RLIM_INFINITY and limit < most:
        raise BenchError(f"idle: a process may open {limit} files, {most} are wanted: raise the"
                         " hard limit (ulimit -Hn) or ask for fewer with --connections")
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))  # children inherit it
    cores = os.sched_getaffinity(0)
    if options.placement == "one-core":
        os.sched_setaffinity(0, {min(cores)})  # and this
    try:
        for name in options.stacks:
            measure_stack(name, repetition, options, record)
    finally:
        os.sched_setaffinity(0, cores)


# What one reads of a stack, for each count: the line's head, the cells' name, a figure, a form.
LINES = (("opened per second", "opened", "value", lambda value: f"{value:,.0f}"),
         ("bytes of memory of each", "memory", "value", lambda value: f"{value:,.0f}"),
         ("resident, MiB", "memory", "resident_bytes", lambda value: f"{value / 2**20:.1f}"),
         ("round trip on one, us", "one", "value", lambda value: f"{value:.1f}"),
         ("round trip on a random one, us", "random", "value", lambda value: f"{value:.1f}"),
         (f"that against {FEW} connections", "random", "ratio", lambda value: f"x{value:.2f}"))


def show(results):
    """Prints a table. Nothing here fails a run."""
    counts = sorted({int(cell.split()[1]) for cell in figures.distinct(results, "cell")})
    print(f"\nidle, MTU {MTU}: median (lowest-highest)")
    tables.row("", [f"{count:,}" for count in counts])
    for name in figures.stacks(results):
        own = figures.select(results, stack=name)
        print(name)
        for head, cell, figure, form in LINES:
            measured = [figures.spread(figures.values(own, f"{cell} {count}", figure))
                        for count in counts]
            if any(measured):
                tables.row(f"  {head}", ["-" if each is None else
                                         f"{form(each.median)} ({form(each.lowest)}"
                                         f"-{form(each.highest)})" for each in measured])
    return True
