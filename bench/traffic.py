"""Runs traffic_bench at both ends of one stack: a listener on the host's side and the
connecting end in the guest, or the other way round through a published port. See the
head of traffic_bench.cc for what each mode does.
"""

import contextlib
import json
import os
import random
import statistics

from topology import GUEST_PORT, BenchError, Process, cpu_seconds

# How much longer than its window a measurement may take: set-up and the warm-up.
GRACE = 30.0
# Of round trips: what a machine does besides lasts longer.
SLICE = 0.3


class Ends:
    """The listening and the connecting traffic_bench of one measurement."""

    def __init__(self, stack, listen, connect):
        program = os.path.join(stack.bin_dir, "traffic_bench")
        if stack.published is None:
            self.listener = Process([program, *listen])
        else:
            self.listener = Process(stack.guest.command(
                program, *listen, "--port", str(GUEST_PORT)))
        try:
            port = self.listener.line(GRACE).split()[1]
            if stack.published is None:
                connector = stack.guest.command(
                    program, *connect, "--connect", f"{stack.host_address}:{port}")
            else:
                connector = [program, *connect, "--connect", stack.published]
            self.connector = Process(connector)
        except BaseException:
            self.listener.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The connecting end first: the end of a listener with thousands of
        # connections would make the stack busy while it is measured no more.
        self.connector.stop()
        self.listener.stop()


def watch(stack):
    """An option: whose CPU time and memory is measured. A veth has no process."""
    pids = stack.pids()
    return ["--watch", ",".join(str(pid) for pid in pids)] if pids else []


def measured(stack, result):
    """A result without what nobody used."""
    if not stack.pids():
        for key in ("cpu_seconds", "resident_bytes"):
            result.pop(key, None)
    return result


def bulk(stack, to_listener, streams, seconds):
    """Gbit/s that arrived, CPU seconds of the stack's processes, and what they hold."""
    sink = ["sink", "--streams", str(streams), "--seconds", str(seconds), *watch(stack)]
    source = ["source", "--streams", str(streams)]
    listen, connect = (sink, source) if to_listener else (source, sink)
    with Ends(stack, listen, connect) as ends:
        measuring = ends.listener if to_listener else ends.connector
        result = json.loads(measuring.line(seconds + GRACE))
    if result["streams_ended"]:
        raise BenchError(f"{result['streams_ended']} of {streams} streams ended early")
    return {"value": result["bytes"] * 8 / 1e9 / result["seconds"], **measured(stack, result)}


def round_trips(stacks, seconds):
    """Round trips of one byte on a connection of each stack, per second.

    All connections are open at once and measured in slices, in an order that chance makes for
    each slice: what the machine does besides meets all stacks alike.
    """
    with contextlib.ExitStack() as kept:
        talkers = [Talker(stack, kept) for stack in stacks]
        length = min(SLICE, seconds)
        for _ in range(round(seconds / length)):
            for talker in random.sample(talkers, len(talkers)):
                talker.attempt(talker.measure, length)
        for talker in talkers:
            talker.attempt(talker.finish)
            yield talker.stack, talker.result


class Talker:
    """One connection through a stack, and what its slices gave; the first failure is the last."""

    def __init__(self, stack, kept):
        self.stack, self.slices, self.result = stack, [], None
        self.attempt(self.begin, kept)

    def attempt(self, step, *arguments):
        if self.result is None:
            try:
                step(*arguments)
            except BenchError as problem:
                self.result = {"value": None, "failure": str(problem)}

    def begin(self, kept):
        self.talk = kept.enter_context(Talk(self.stack))
        self.talk.open(1)
        self.talk.ping("one", 0.2)
        self.cpu_before = cpu_seconds(self.stack.pids())

    def measure(self, seconds):
        self.slices.append(self.talk.ping("one", seconds))

    def finish(self):
        def of_slices(figure, of):
            return of(part[figure] for part in self.slices)

        self.result = measured(self.stack, {
            "value": of_slices("per_second", statistics.fmean),
            "rounds": of_slices("round_trips", sum),
            "cpu_seconds": cpu_seconds(self.stack.pids()) - self.cpu_before,
            "median_us": of_slices("median_us", statistics.median),
            "p99_us": of_slices("p99_us", statistics.median)})


def close_rounds(stack, parallel, seconds):
    """Connect, one byte there and back, close: rounds per second."""
    with Ends(stack, ["echo", "--close"], ["crr", "--parallel", str(parallel), "--seconds",
                                           str(seconds), *watch(stack)]) as ends:
        result = json.loads(ends.connector.line(seconds + GRACE))
    return {"value": result["per_second"], **measured(stack, result)}


class Talk(Ends):
    """Connections to an echo server that stay open as long as this."""

    def __init__(self, stack):
        super().__init__(stack, ["echo"], ["talk"])

    def open(self, count):
        self.connector.say(f"open {count}")
        return json.loads(self.connector.line(GRACE + count / 50))

    def ping(self, which, seconds):
        self.connector.say(f"ping {which} {seconds}")
        return json.loads(self.connector.line(seconds + GRACE))
