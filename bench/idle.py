"""bench/run idle: what many idle connections cost a stack, in memory and in time.

Two of each stack run side by side, one with a few connections and one with many. The
memory is that of the second, before and after it got the many. Round trips are then
measured on both in turns, so that a change of the machine's speed meets both.

All processes share one core unless --placement free: a round trip then is the sum of
the work that it makes, and the ratio says how that work grows. Spread over cores, a
round trip is mostly the time to wake another core, which hides the stack's share, and
changes several-fold with where the scheduler puts the processes.
"""

import os
import statistics
import time

import traffic
from topology import STACKS as ALL_STACKS

SUMMARY = "resident memory and round trips beside many idle connections"
STACKS = ["penstock-r0", "penstock-r1"]
KNOWN_STACKS = ALL_STACKS

FEW = 10
MEMORY_TARGET_KIB = 3.0
RATIO_TARGET = 1.15
MTU = 1500


def add_options(command, _a_list, positive):
    command.add_argument("--connections", type=positive(int), default=10_000, metavar="N",
                         help="idle connections, at least 100 (10000)")
    command.add_argument("--rounds", type=positive(int), default=7, metavar="N",
                         help="of round trips on both in turns (7)")
    command.add_argument("--seconds", type=positive(float), default=0.5, metavar="N",
                         help="of each measurement of round trips (0.5)")
    command.add_argument("--placement", choices=("one-core", "free"), default="one-core",
                         help="where guest, stack and server run (one-core)")


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


def print_against(what, value, text, target, unit):
    met = "met" if value < target else "MISSED"
    print(f"  {what}: {text} (target: under {target:g}{unit}: {met})")
    return value < target


def measure_rounds(few, many, options):
    """which -> list of (median round trip beside few, beside many), microseconds."""
    pairs = {"one": [], "random": []}
    for talk in (few, many):  # warm-up
        talk.ping("one", 0.2)
    for number in range(1, options.rounds + 1):
        line = [f"  round {number}/{options.rounds}:"]
        for which, name in (("one", "active connection"), ("random", "a random one")):
            beside = [talk.ping(which, options.seconds)["median_us"] for talk in (few, many)]
            pairs[which].append(beside)
            line.append(f"{name} {beside[0]:.1f} us beside {FEW}, {beside[1]:.1f} us beside"
                        f" {options.connections};")
        print(" ".join(line).rstrip(";"), flush=True)
    return pairs


def measure_pair(few_stack, many_stack, options):
    with traffic.Talk(few_stack) as few, traffic.Talk(many_stack) as many:
        few.open(FEW)
        many.open(FEW)
        few_bytes = resident_at_rest(many_stack)
        opened = many.open(options.connections)
        many_bytes = resident_at_rest(many_stack)
        each = (many_bytes - few_bytes) / (options.connections - FEW)
        print(f"  resident with {FEW} connections {few_bytes / 2**20:.1f} MiB, with"
              f" {options.connections} {many_bytes / 2**20:.1f} MiB; opened"
              f" {opened['opened_per_second']:,.0f} per second", flush=True)
        pairs = measure_rounds(few, many, options)
    return {"resident_bytes_few": few_bytes, "resident_bytes_many": many_bytes,
            "bytes_each": each, "opened_per_second": opened["opened_per_second"],
            "round_trips_us": pairs,
            "ratios": {which: statistics.median(many / few for few, many in rounds)
                       for which, rounds in pairs.items()}}


def measure_stack(name, options):
    print(f"\n{name}: {options.connections} idle connections")
    few_stack = ALL_STACKS[name](MTU, options.bin)
    try:
        many_stack = ALL_STACKS[name](MTU, options.bin)
        try:
            result = measure_pair(few_stack, many_stack, options)
        finally:
            many_stack.stop()
    finally:
        few_stack.stop()
    kib = result["bytes_each"] / 1024
    ratios = result["ratios"]
    memory_met = print_against("memory of an idle connection", kib, f"{kib:.2f} KiB",
                               MEMORY_TARGET_KIB, " KiB")
    ratio_met = print_against("round trip of an active connection, against that beside"
                              f" {FEW}", ratios["one"], f"x{ratios['one']:.3f}", RATIO_TARGET, "")
    print(f"  round trip on each connection in turn, against that with {FEW}:"
          f" x{ratios['any']:.3f} (no target: caches, the kernel's too, are colder)")
    result["targets_met"] = memory_met and ratio_met
    return result


def measure(options):
    options.connections = max(options.connections, 100)
    if options.placement == "one-core":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # children inherit it
    results = {name: measure_stack(name, options) for name in options.stacks}
    return {"connections": options.connections, "rounds": options.rounds,
            "placement": options.placement, "results": results}, True
