"""What a penstock asks of the system while traffic runs: counted by calls_preload.cc, which
is preloaded into it, over a stretch that is given in units of work and not in seconds.

How much work was done is counted in the same place and at the same moment: the bytes that
went to a host socket or came from one, of which a round trip has one and a datagram 1,400;
a connect for a connection.
"""

import os
import struct
import time

import traffic
import udp
from topology import SCRATCH, BenchError, PenstockOneThread, PenstockRelayThread

LIBRARY = "libcalls_preload.so"
MTU = 1500
MIB = 1 << 20
DATAGRAM_BYTES = 1400
TIMEOUT = 40.0  # of a cell, on a machine that does other things as well
COUNT = struct.Struct("24sQQQ")  # Count of calls_preload.cc

SEND = ("send", "sendto", "sendmsg", "sendmmsg")
RECEIVE = ("recv", "recvfrom", "recvmsg", "recvmmsg")
WAITS = ("epoll_wait", "epoll_pwait", "ppoll")  # the last: a poll thread beside relay threads


def is_transfer(name):
    """Its results above 0 are bytes."""
    return name in SEND + RECEIVE or name in ("read", "readv", "write", "writev", "splice")


def may_be_empty(name):
    """A result of 0 or below means that the call was for nothing."""
    return is_transfer(name) or name in WAITS or name in ("poll", "accept", "accept4")


class Cell:
    """One kind of traffic: how it is made, its unit, how many are for warm-up and counted."""

    def __init__(self, unit, scale, units, warm_up, counted, ends):
        self.unit = unit
        self.scale = scale  # how much of `units` makes one
        self.units = units  # of Counts: what was done so far
        self.warm_up = warm_up
        self.counted = counted
        self.ends = ends    # begins the traffic, to be stopped with `with`


def talk(stack):
    ends = traffic.Talk(stack)
    ends.open(1)
    ends.connector.say("ping one 600")
    return ends


def bulk(to_host):
    def begin(stack):
        sink, source = ["sink", "--seconds", "600"], ["source"]
        listen, connect = (sink, source) if to_host else (source, sink)
        return traffic.Ends(stack, listen, connect)
    return begin


def connect_rounds(stack):
    return traffic.Ends(stack, ["echo", "--close"], ["crr", "--seconds", "600"])


def datagrams(to_host):
    def begin(stack):
        size = ["--bytes", str(DATAGRAM_BYTES)]
        sink, source = ["sink", *size, "--seconds", "600"], ["source", *size, "--rate", "0"]
        return udp.Ends(stack, *((sink, source) if to_host else (source, sink)))
    return begin


CELLS = {
    "round-trips": Cell("round trip", 1, lambda c: c.amount(SEND), 2_000, 10_000, talk),
    "up": Cell("MiB", MIB, lambda c: c.amount(SEND), 128, 1_024, bulk(True)),
    "down": Cell("MiB", MIB, lambda c: c.amount(RECEIVE), 128, 1_024, bulk(False)),
    "connects": Cell("connection", 1, lambda c: c.calls("connect"), 200, 2_000, connect_rounds),
    "udp-up": Cell("datagram", DATAGRAM_BYTES, lambda c: c.amount(SEND), 10_000, 100_000,
                   datagrams(True)),
    "udp-down": Cell("datagram", DATAGRAM_BYTES, lambda c: c.amount(RECEIVE), 10_000, 100_000,
                     datagrams(False)),
}


class Counts:
    """name -> (calls, calls of which nothing came, bytes or events)"""

    def __init__(self, by_name):
        self.by_name = by_name

    def calls(self, *names):
        return sum(self.by_name[name][0] for name in names)

    def amount(self, names):
        return sum(self.by_name[name][2] for name in names)

    def __sub__(self, before):
        return Counts({name: tuple(now - then for now, then in zip(count, before.by_name[name]))
                       for name, count in self.by_name.items()})

    def wake_ups(self):
        """Returns of epoll_wait, or its like, with an event."""
        return self.calls(*WAITS) - self.looks()

    def looks(self):
        """Returns of epoll_wait without one. Who looks instead of sleeping does that as often
        as there is time; it is no part of the other sums."""
        return sum(self.by_name[name][1] for name in WAITS)

    def system_calls(self):
        every = sum(count[0] for name, count in self.by_name.items() if name != "malloc")
        return every - self.looks()

    def allocations(self):
        return self.calls("malloc")


def counts_in(data):
    """Of what calls_preload.cc has written."""
    return Counts({name.rstrip(b"\0").decode(): tuple(count)
                   for name, *count in COUNT.iter_unpack(data)})


class Counted:
    """Mixed into a penstock of topology.py."""

    def start_with_ready_fd(self, command, option):
        library = os.path.join(self.bin_dir, LIBRARY)
        if not os.access(library, os.R_OK):
            raise BenchError(f"{library} is missing: ./tools/dev build release")
        self.counts_file = os.path.join(SCRATCH, f"calls.{self.guest.pid}")
        super().start_with_ready_fd(["env", f"LD_PRELOAD={library}",
                                     f"PENSTOCK_CALLS_FILE={self.counts_file}", *command], option)

    def counts(self):
        with open(self.counts_file, "rb") as file:
            return counts_in(file.read())


class CountedOneThread(Counted, PenstockOneThread):
    pass


class CountedRelayThread(Counted, PenstockRelayThread):
    pass


STACKS = {"r0": CountedOneThread, "r1": CountedRelayThread}


def wait_for(stack, cell, units):
    deadline = time.monotonic() + TIMEOUT
    while True:
        counts = stack.counts()
        if cell.units(counts) >= units * cell.scale:
            return counts
        if time.monotonic() > deadline:
            raise BenchError(f"{stack.name}: {cell.units(counts) / cell.scale:.0f} of"
                             f" {units:.0f} ({cell.unit}) in {TIMEOUT:.0f} s")
        time.sleep(0.01)  # a sample, not a rendezvous: what was done is counted with it


def cpu_seconds(stack):
    """(user's, system's) of the stack's processes so far."""
    ticks = [0, 0]
    for pid in stack.pids():
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            words = file.read().rsplit(")", 1)[1].split()
        ticks = [ticks[0] + int(words[11]), ticks[1] + int(words[12])]
    return [count / os.sysconf("SC_CLK_TCK") for count in ticks]


def stretches(stack, cell, number):
    """Of so many in a row: counts, the units that were done in it, CPU seconds."""
    with cell.ends(stack):
        begun = cell.units(stack.counts()) / cell.scale
        before = wait_for(stack, cell, begun + cell.warm_up)
        cpu_before = cpu_seconds(stack)
        for _ in range(number):
            done = cell.units(before) / cell.scale
            after = wait_for(stack, cell, done + cell.counted / number)
            cpu_after = cpu_seconds(stack)
            counts = after - before
            yield (counts, cell.units(counts) / cell.scale,
                   [now - then for now, then in zip(cpu_after, cpu_before)])
            before, cpu_before = after, cpu_after


def measure(stack, cell):
    """The whole of it as one stretch."""
    return list(stretches(stack, cell, 1))[0]
