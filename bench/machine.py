"""bench/run machine: what a virtual machine reaches of the host, behind each stack that QEMU can
have for it.

The machines are emulated, and their processor is what most cells wait for. Cells are measured as
rounds.py says; who the machines are: machines.py.
"""

import functools

import figures
import machines
import rounds
import tables

SUMMARY = "a QEMU guest over a socket: penstock beside -netdev user and passt"
STACKS = ["user", "passt", "penstock", "penstock-50", "penstock-dgram"]
KNOWN_STACKS = machines.MACHINES
LEGENDS = machines.LEGENDS
require_programs = machines.require_programs
SERVER = "server_cpu_seconds"
BOOT_SECONDS = 4.0

PLAN = rounds.Plan(
    benchmark="machine", stacks=KNOWN_STACKS, directions=("up", "down"), seconds=4.0,
    mtus=["1500", "65520"], chosen=["up 1", "down 1", "up 8", "down 8", "round trips", "close 1"])
add_options, measure = PLAN.add_options, PLAN.measure


def shared_out(measure, stacks, seconds):
    """The same, and how much of the CPU time was the server's own: by its share of all that was
    used from before the cell until after it."""
    before = {stack: stack.cpu_seconds() for stack in stacks}
    for stack, result in measure(stacks, seconds):
        if result["value"] is None:
            yield stack, result
            continue
        result.pop("resident_bytes", None)  # QEMU's, with the machine's memory
        server, main = (after - used for after, used in zip(stack.cpu_seconds(), before[stack]))
        if "cpu_seconds" in result and server + main > 0:
            result[SERVER] = result["cpu_seconds"] * server / (server + main)
        yield stack, result


PLAN.cells = {cell: (unit, functools.partial(shared_out, measure))
              for cell, (unit, measure) in PLAN.cells.items()}


def planned_seconds(options):
    return (PLAN.planned_seconds(options)
            + len(options.mtus) * len(options.stacks) * BOOT_SECONDS)


def server_cpu_per_gb(results, direction):
    cells = [result for result in results if result["cell"].startswith(direction + " ")
             and result.get(SERVER) is not None]
    moved = sum(result["bytes"] for result in cells)
    return sum(result[SERVER] for result in cells) / moved * figures.GB if moved else None


def show(results):
    """Prints tables; whether penstock failed nowhere."""
    good = PLAN.show(results)
    for mtu in figures.distinct(results, "mtu"):
        here = figures.select(results, mtu=mtu)
        print(f"\nmachine, MTU {mtu}: of it CPU s/GB of the server's process alone (user: it is"
              " QEMU's main thread)")
        tables.row("", PLAN.directions)
        for name in figures.stacks(here):
            own = figures.select(here, stack=name)
            spent = [server_cpu_per_gb(own, direction) for direction in PLAN.directions]
            tables.row(name, ["-" if each is None else f"{each:.2f}" for each in spent])
    return good
