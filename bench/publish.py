"""bench/run publish: what the host reaches of the guest through a published TCP port, on
every stack in turn.

Cells and stacks; how they are measured: rounds.py. The client is in the host's
namespace, the server in the guest's, and the stack carries one to the other.
"""

import functools

import rounds
import topology
import traffic

SUMMARY = "bulk rates, round trips and connection rates through a published port"
STACKS = list(topology.PUBLISHING_STACKS)


def bulk(to_guest, streams):
    return ("Gbit/s", lambda stack, seconds: traffic.bulk(stack, to_guest, streams, seconds))


PLAN = rounds.Plan(
    stacks={name: functools.partial(stack, published=True)
            for name, stack in topology.PUBLISHING_STACKS.items()},
    bulk_cells={"to guest 1": bulk(True, 1), "from guest 1": bulk(False, 1),
                "to guest 8": bulk(True, 8), "from guest 8": bulk(False, 8)},
    # 64 at once come last: a stack that leaves some without an answer may be busy with
    # them for a while.
    rate_cells={
        "round trips": ("1/s", traffic.round_trips),
        "close 1": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 1, seconds)),
        "close 64": ("1/s", lambda stack, seconds: traffic.close_rounds(stack, 64, seconds)),
    },
    directions=("to guest", "from guest"), cpu_head="CPU s/GB to, from")
KNOWN_STACKS = PLAN.stacks


def add_options(command, a_list, positive):
    # With eight streams it takes twice as long and says nothing about the listener.
    rounds.add_options(command, a_list, positive, PLAN, seconds=1.0, mtus=["65520"],
                       cells=[cell for cell in PLAN.cells if not cell.endswith(" 8")])


def measure(options):
    return rounds.measure(PLAN, options)
