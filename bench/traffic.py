"""Runs traffic_bench at both ends of one stack: a listener on the host's side and the
connecting end in the guest, or the other way round through a published port. See the
head of traffic_bench.cc for what each mode does.
"""

import json
import os

from topology import GUEST_PORT, BenchError, Process

# How much longer than its window a measurement may take: set-up and the warm-up.
GRACE = 30.0


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


def round_trips(stack, seconds):
    """Round trips of one byte on one connection, per second."""
    with Talk(stack) as talk:
        talk.open(1)
        talk.ping("one", 0.2)
        result = talk.ping("one", seconds)
    return {"value": result["per_second"], **result}


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
