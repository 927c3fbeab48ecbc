#!/usr/bin/env python3
"""Runs one command in a virtual machine of machines.py, as if it ran here.

    machine_console.py SOCKET PID[,PID...] COMMAND [ARGUMENT...]

SOCKET is the machine's console, at which tests/vm/init obeys one line after the other. What the
command prints comes out here, what is said to this process goes to its standard input, and
SIGTERM here ends it there.

The guest sees none of the host's processes: `--watch`, which would name them, is taken out, and
the result, a line of JSON, gets the CPU time that each PID took meanwhile: a process, or a
thread (PID/task/TID).
"""

import json
import os
import select
import signal
import socket
import sys
import time

from topology import cpu_seconds

END = "=end\n"
# The command reads a pipe, so that what is said ends it: busybox has no job control here.
SHELL = ("rm -f /tmp/in; mkfifo /tmp/in; {command} < /tmp/in & pid=$!; exec 3> /tmp/in;"
         " while read -r line; do [ \"$line\" = =end ] && break; echo \"$line\" >&3; done;"
         " exec 3>&-; kill $pid 2> /dev/null; wait $pid; true\n")
WARMUP = 0.5  # s, traffic_bench's


class Console:
    def __init__(self, path, pids, watches):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.pids, self.watches = pids, watches
        self.unread = b""
        self.ending = False
        self.before = None
        self.window_begins = time.monotonic() + WARMUP

    def end(self):
        if not self.ending:
            self.ending = True
            self.socket.sendall(END.encode())

    def line(self, line):
        """Of the guest's; False after the last one."""
        if line.startswith("=status "):
            return False
        if self.watches and line.startswith("{"):
            result = json.loads(line)
            result["cpu_seconds"] = cpu_seconds(self.pids) - (self.before or 0)
            line = json.dumps(result)
        print(line, flush=True)
        return True

    def relay(self, signals):
        sources = [self.socket, sys.stdin, signals]
        while True:
            timeout = None
            if self.watches and self.before is None:
                timeout = max(0.0, self.window_begins - time.monotonic())
                if timeout == 0.0:
                    self.before, timeout = cpu_seconds(self.pids), None
            readable = select.select(sources, [], [], timeout)[0]
            if signals in readable:
                sources.remove(signals)
                self.end()
            if sys.stdin in readable:
                said = os.read(sys.stdin.fileno(), 4096)
                if said:
                    self.socket.sendall(said)
                else:
                    sources.remove(sys.stdin)
                    self.end()
            if self.socket in readable:
                part = self.socket.recv(4096)
                if not part:
                    sys.exit("the virtual machine is gone")
                *lines, self.unread = (self.unread + part).split(b"\n")
                for line in lines:
                    if not self.line(line.decode(errors="replace").rstrip("\r")):
                        return


def main(path, pids, *command):
    command = list(command)
    watches = "--watch" in command
    if watches:
        at = command.index("--watch")
        del command[at:at + 2]
    signals, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    console = Console(path, pids.split(","), watches)
    console.socket.sendall(SHELL.format(command=" ".join(command)).encode())
    console.relay(signals)


if __name__ == "__main__":
    main(*sys.argv[1:])
