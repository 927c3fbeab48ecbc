"""bench/run throughput: what the guest reaches of the host, on every stack in turn.

Cells and stacks; how they are measured: rounds.py.
"""

import rounds
import topology
import traffic

SUMMARY = "bulk rates, round trips and connection rates of all stacks"
STACKS = ["veth", "slirp4netns", "pasta", "penstock-r0", "penstock-r1"]

PLAN = rounds.Plan(
    stacks=topology.STACKS,
    bulk_cells={
        "up 1": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, True, 1, seconds)),
        "down 1": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, False, 1, seconds)),
        "up 8": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, True, 8, seconds)),
        "down 8": ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, False, 8, seconds)),
    },
    rate_cells={
        "round trips": ("1/s", traffic.round_trips),
        "close 1": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 1, seconds)),
        "close 64": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 64, seconds)),
    },
    directions=("up", "down"), cpu_head="CPU s/GB up, down")
KNOWN_STACKS = PLAN.stacks


def add_options(command, a_list, positive):
    rounds.add_options(command, a_list, positive, PLAN, seconds=2.0, mtus=rounds.MTUS,
                       cells=list(PLAN.cells))


def measure(options):
    return rounds.measure(PLAN, options)
