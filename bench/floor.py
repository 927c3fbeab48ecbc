"""bench/run floor: penstock beside the two copies through the kernel alone.

The floor (floor_bench.cc) takes a stack's place; the cells are throughput's, which are
measured as rounds.py says.
"""

import rounds
import topology

SUMMARY = "penstock beside what two copies through the kernel cost without a network"
STACKS = ["veth", "floor", "penstock"]
KNOWN_STACKS = topology.STACKS
LEGENDS, require_programs = topology.LEGENDS, topology.require_programs
PLAN = rounds.Plan(
    benchmark="floor", stacks=KNOWN_STACKS, directions=("up", "down"), seconds=2.0,
    mtus=["1500", "65520"], chosen=["up 1", "down 1", "up 8", "down 8", "round trips", "close 1"])
add_options, planned_seconds = PLAN.add_options, PLAN.planned_seconds
measure, show = PLAN.measure, PLAN.show
