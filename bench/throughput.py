"""bench/run throughput: what the guest reaches of the host, on every stack in turn.

How cells are measured: rounds.py.
"""

import rounds
import topology

SUMMARY = "bulk rates, round trips and connection rates of all stacks"
STACKS = ["veth", "slirp4netns", "pasta", "floor", "penstock"]
KNOWN_STACKS = topology.STACKS
LEGENDS, require_programs = topology.LEGENDS, topology.require_programs
PLAN = rounds.Plan(
    benchmark="throughput", stacks=KNOWN_STACKS, directions=("up", "down"), seconds=2.0,
    mtus=rounds.MTUS, chosen=[f"{direction} {streams}" for streams in rounds.STREAMS
                              for direction in ("up", "down")] + list(rounds.RATE_CELLS))
add_options, planned_seconds = PLAN.add_options, PLAN.planned_seconds
measure, show = PLAN.measure, PLAN.show
