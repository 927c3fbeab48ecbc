"""bench/run publish: what the host reaches of the guest through a published TCP port, on
every stack in turn.

How cells are measured: rounds.py. The client is in the host's namespace, the server in
the guest's, and the stack carries one to the other.
"""

import functools

import rounds
import topology

SUMMARY = "bulk rates, round trips and connection rates through a published port"
STACKS = ["veth", "slirp4netns", "pasta", "pasta-splice", "penstock"]
KNOWN_STACKS = {name: functools.partial(stack, published=True)
                for name, stack in topology.PUBLISHING_STACKS.items()}
LEGENDS, require_programs = topology.LEGENDS, topology.require_programs
PLAN = rounds.Plan(
    benchmark="publish", stacks=KNOWN_STACKS, directions=("to guest", "from guest"), seconds=1.0,
    # More MTUs and streams take longer and say nothing about the listener.
    mtus=["65520"], chosen=["to guest 1", "from guest 1", *rounds.RATE_CELLS])
add_options, planned_seconds = PLAN.add_options, PLAN.planned_seconds
measure, show = PLAN.measure, PLAN.show
