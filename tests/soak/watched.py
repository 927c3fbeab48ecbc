"""The penstock of a soak, and what of it must not grow: its descriptors, its memory and the
levels of its own counters (not those that only count up)."""

import os
import select
import signal
import time

import topology

# Levels that are zero when nobody speaks. The last three outlive what they were for, by
# minutes, as NAT mappings do.
FLOWS = ("flows_dialing", "flows_handshake", "flows_open", "flows_closing", "dns_streams",
         "buffer_bytes_to_host", "buffer_bytes_to_guest", "fragments_held")
MAPPINGS = ("udp_mappings", "echo_mappings", "udp_peers")
SOCKETS = ("udp_mappings", "echo_mappings")  # each of them has one
# How long flows and mappings may take to end after everybody has left.
FLOWS_END = 30.0
MAPPINGS_END = 330.0
# What a mapping with its socket takes, for those that are still there.
MAPPING_BYTES = 4_096


class State:
    def __init__(self, descriptors, resident, levels):
        self.descriptors = descriptors
        self.resident = resident
        self.levels = levels

    def mappings(self):
        return sum(self.levels[name] for name in MAPPINGS)

    def flows(self):
        return sum(self.levels[name] for name in FLOWS[:4])

    def own_descriptors(self):
        return self.descriptors - sum(self.levels[name] for name in SOCKETS)

    def summary(self):
        return (f"{self.descriptors} descriptors, {self.resident / (1 << 20):.1f} MiB, "
                f"{self.flows()} flows, {self.mappings()} mappings")


def differences(fresh, warm, end, growth_max):
    """Sentences about what is not as it was before any traffic, or (memory, of which an
    allocator may keep `growth_max` bytes more) after the warm-up."""
    if end.own_descriptors() != fresh.own_descriptors():
        yield (f"descriptors beside those of mappings: {fresh.own_descriptors()} at the start, "
               f"{end.own_descriptors()} at the end")
    growth = end.resident - warm.resident
    allowed = growth_max + max(end.mappings() - warm.mappings(), 0) * MAPPING_BYTES
    if growth > allowed:
        yield (f"memory: {growth / (1 << 20):.1f} MiB more than after the warm-up, "
               f"{allowed / (1 << 20):.1f} MiB may be")
    for name in FLOWS:
        if end.levels[name] != 0:
            yield f"{name} is {end.levels[name]}, though nobody is left"


class Penstock:
    def __init__(self, options, guest, words):
        self.program = os.path.join(options.bin, "penstock")
        if not os.access(self.program, os.X_OK):
            raise topology.BenchError(f"{self.program} is missing: ./tools/dev build release")
        self.stats_file = os.path.join(topology.SCRATCH, "stats")
        ready, ready_write = os.pipe()
        try:
            self.process = topology.Process(
                [self.program, "attach", "--pid", str(guest.pid), "--ready-fd", str(ready_write),
                 "--stats-file", self.stats_file, "--relay-threads", options.relay_threads, *words],
                pass_fds=(ready_write,))
            os.close(ready_write)
            if not select.select([ready], [], [], topology.READY_TIMEOUT)[0] or \
                    not os.read(ready, 1):
                raise self.process.failure("did not become ready")
        finally:
            os.close(ready)

    def pids(self):
        """It and its clerk."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [pid, *map(int, file.read().split())]

    def levels(self):
        """What it writes on SIGUSR1; the file is replaced in one step."""
        if os.path.exists(self.stats_file):
            os.unlink(self.stats_file)
        if self.process.child.poll() is not None:
            raise self.process.failure(f"penstock ended, status {self.process.child.returncode}")
        self.process.child.send_signal(signal.SIGUSR1)
        topology.wait_until(lambda: os.path.exists(self.stats_file), "penstock writes statistics")
        found = {}
        with open(self.stats_file, encoding="ascii") as file:
            for line in file:
                name, value, *_ = line.split()
                if name in FLOWS or name in MAPPINGS:
                    found[name] = int(value)
        missing = [name for name in FLOWS + MAPPINGS if name not in found]
        if missing:
            raise topology.BenchError(f"penstock's statistics have no {', '.join(missing)}")
        return found

    def look(self):
        levels = self.levels()
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            resident = next(int(line.split()[1]) << 10 for line in file
                            if line.startswith("VmRSS:"))
        return State(len(os.listdir(f"/proc/{self.process.pid}/fd")), resident, levels)

    def settle(self, mappings_too, fresh=None):
        """Waits until flows have ended, and mappings, and there are no more descriptors than at
        `fresh` (sockets that names were asked through are kept for 10 s); the state then,
        whether or not that came."""
        begun = time.monotonic()
        names = FLOWS + MAPPINGS if mappings_too else FLOWS
        limit = MAPPINGS_END if mappings_too else FLOWS_END
        told = begun
        while True:
            state = self.look()
            now = time.monotonic()
            done = not any(state.levels[name] for name in names) and (
                fresh is None or state.own_descriptors() <= fresh.own_descriptors())
            if done or now - begun > limit:
                return state
            if now - told > 30:
                told = now
                print(f"       waiting for the end of mappings: {state.summary()}", flush=True)
            time.sleep(0.1)  # a sample: the state has no event

    def end(self):
        """By SIGTERM; sentences about what was wrong."""
        self.process.child.send_signal(signal.SIGTERM)
        status = self.process.child.wait(topology.READY_TIMEOUT)
        self.process.errors.seek(0)
        said = self.process.errors.read().decode(errors="replace").strip()
        if status != 0 or said:
            yield f"penstock ended with status {status} and said: {said or 'nothing'}"
