#!/usr/bin/env python3
"""The C ABI from outside: what the library exports, what its header asks of a compiler.

    abi_test.py LIBRARY BIN_DIR CC CXX [CASE...]

LIBRARY is the built libpenstock.so. calls.c and layout.c beside this file are the rest: a
program that calls everything, and sizes, places and values as they are recorded. CMake runs
each case as one ctest test.
"""

import os
import re
import socket
import struct
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
HEADER = os.path.join(SOURCE, "stack", "penstock.h")
LIBRARY, BIN, CC, CXX = sys.argv[1:5]
LIMIT = 40  # seconds that any one command or answer may take

GUEST_MAC, GATEWAY_MAC = bytes.fromhex("020000000015"), bytes.fromhex("52550a000202")
GUEST, GATEWAY = socket.inet_aton("10.0.2.15"), socket.inet_aton("10.0.2.2")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def run(*command):
    return subprocess.run(command, check=True, timeout=LIMIT, text=True,
                          stdout=subprocess.PIPE).stdout


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(source_port, destination_port, data):
    """From the guest to the gateway."""
    udp = struct.pack("!HHHH", source_port, destination_port, 8 + len(data), 0) + data
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0x4000, 64, 17, 0, GUEST,
                         GATEWAY)
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return GATEWAY_MAC + GUEST_MAC + b"\x08\x00" + header + udp


class Guest:
    """The VMM's end of a stream socket, and a guest that speaks UDP by hand."""

    def __init__(self):
        self.socket, self.passed = socket.socketpair()
        self.socket.settimeout(LIMIT)

    def send(self, frame):
        self.socket.sendall(struct.pack("!I", len(frame)) + frame)

    def take(self, count):
        data = b""
        while len(data) < count:
            some = self.socket.recv(count - len(data))
            if not some:
                raise EOFError
            data += some
        return data

    def await_udp(self, port):
        """What the next datagram to `port` of the guest's holds; answers who asks for its MAC."""
        while True:
            frame = self.take(*struct.unpack("!I", self.take(4)))
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x01":
                self.send(frame[6:12] + GUEST_MAC + b"\x08\x06" + frame[14:20] + b"\x00\x02"
                          + GUEST_MAC + GUEST + frame[22:32])
            if (frame[12:14] == b"\x08\x00" and frame[23] == 17
                    and frame[36:38] == struct.pack("!H", port)):
                return frame[42:34 + struct.unpack("!H", frame[38:40])[0]]


class Abi(unittest.TestCase):
    def test_exports(self):
        """Exactly the recorded names, which are those that the header declares."""
        table = run("nm", "--dynamic", "--defined-only", "--format=posix", LIBRARY)
        names = {line.split()[0].split("@")[0] for line in table.splitlines()}
        names.discard("PENSTOCK_0")
        recorded = read(os.path.join(HERE, "exports")).split()
        self.assertEqual(recorded, sorted(recorded))
        self.assertEqual(names, set(recorded))
        text = re.sub(r"/\*.*?\*/", "", read(HEADER), flags=re.DOTALL)
        declared = re.findall(r"PENSTOCK_API[^;{]*?\b(penstock_\w+)\(", text)
        self.assertEqual(sorted(declared), recorded)

    def test_library_name(self):
        """Programs ask the loader for this one."""
        self.assertIn("[libpenstock.so.0]", run("readelf", "--dynamic", LIBRARY))

    def test_version(self):
        found = re.search(r"^project\(penstock VERSION (\d+)\.(\d+)\.(\d+)",
                          read(os.path.join(SOURCE, "CMakeLists.txt")), re.MULTILINE)
        header = re.findall(r"#define PENSTOCK_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", read(HEADER))
        self.assertEqual(header, list(found.groups()))

    def test_header(self):
        """Of any of these languages, without a word from the compiler."""
        for compiler, language, standard in ((CC, "c", "c11"), (CC, "c", "c17"),
                                             (CXX, "c++", "c++11"), (CXX, "c++", "c++20")):
            run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Werror",
                "-pedantic", "-fsyntax-only", HEADER)

    def test_mini_runtime(self):
        """The example: a guest's datagrams to the host and back, orders, events, a clean end."""
        guest = Guest()
        self.addCleanup(guest.socket.close)
        host = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(host.close)
        host.settimeout(LIMIT)
        host.bind(("127.0.0.1", 0))
        port = host.getsockname()[1]
        with subprocess.Popen([os.path.join(BIN, "mini-runtime-c"), str(guest.passed.fileno())],
                              pass_fds=[guest.passed.fileno()], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as runtime:
            self.addCleanup(runtime.kill)
            guest.passed.close()

            def order(text, answer):
                runtime.stdin.write(text + "\n")
                runtime.stdin.flush()
                return await_line(answer)

            def await_line(start):
                for line in runtime.stdout:
                    if line.startswith(start):
                        return line.rstrip()
                self.fail(f"it ended without a line {start}")

            await_line("ready")
            guest.send(udp_frame(4000, port, b"question"))
            data, peer = host.recvfrom(100)
            self.assertEqual(data, b"question")
            host.sendto(b"answer", peer)
            self.assertEqual(guest.await_udp(4000), b"answer")
            await_line(f"event flow-opened 10.0.2.15:4000 10.0.2.2:{port}")

            bound = order("publish 0:7/udp", "published").split()[1]
            self.assertTrue(bound.startswith("127.0.0.1:"), bound)
            published = ("127.0.0.1", int(bound.split(":")[1]))
            host.sendto(b"from a client", published)
            self.assertEqual(guest.await_udp(7), b"from a client")
            order(f"unpublish {published[1]}/udp", "unpublished")
            self.assertIn("it must be", order("publish 1:70000", "error "))

            order("policy default egress deny", "policy replaced")
            guest.send(udp_frame(4001, port, b"denied"))
            self.assertIn(f"10.0.2.2:{port}", await_line("event denied 10.0.2.15:4001"))

            runtime.stdin.close()
            self.assertNotEqual(await_line("frames_to_guest "), "frames_to_guest 0")
            await_line("stopped")
            self.assertEqual(runtime.wait(LIMIT), 0)
            with self.assertRaises(EOFError):  # the stack has closed what it was given
                while True:
                    guest.take(1)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *(f"Abi.{case}" for case in sys.argv[5:])])
