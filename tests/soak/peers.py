#!/usr/bin/env python3
"""The ends of the soak's traffic, each a process that may be killed at any moment.

    peers.py server SPEC     servers of TCP, UDP and DNS, as far as SPEC has ports for them
    peers.py client SPEC     keeps several exchanges under way, each chosen at random

SPEC is a JSON object. Both say "ready" first, and a client then one JSON object a line for
each exchange that has ended: what it was, with whom, from when to when (CLOCK_MONOTONIC, the
same in all processes), how many bytes, and how it ended. None tries to hide anything: whether
an error may be is for the soak to say, which knows whom it has killed.

A TCP exchange begins with a head that says how much goes which way and who resets it, if
anybody. Each byte of a stream is a function of its place and of the stream's number; both ends
check all that they get. A datagram's bytes are checked when they come back, an answer of DNS is
a function of its name.
"""

import asyncio
import hashlib
import json
import os
import random
import socket
import struct
import sys
import time

CHUNK = 65_536
PERIOD = 1_048_573  # a prime: a stream that is shifted by any power of two shows
PATTERN = random.Random(2024).randbytes(PERIOD)
PATTERN = memoryview(PATTERN + PATTERN[:CHUNK])

# Number of the stream up (that down is the next), bytes up and down, who resets.
HEAD = struct.Struct("!QQQB")
NOBODY, CLIENT, SERVER = range(3)
# Far more than anything takes that goes on.
PATIENCE = 20.0
AGAIN = 1.0  # of a datagram without an answer
DATAGRAM_TRIES = 6
DATAGRAM_BYTES_MAX = 8_000
PING_BYTES_MAX = 1_200


class WrongBytes(Exception):
    """What must never happen."""


class Cut(Exception):
    """A stream ended before all had come."""


class Lost(Exception):
    """No answer to a datagram, however often it was sent."""


class NoName(Exception):
    """An answer of DNS that says that nobody knows."""


def piece(stream, at, size):
    begin = (stream * 7_919 + at) % PERIOD
    return PATTERN[begin:begin + size]


# ---------------------------------------------------------------- TCP

async def send_stream(writer, stream, size):
    at = 0
    while at < size:
        part = min(CHUNK, size - at)
        writer.write(piece(stream, at, part))
        await asyncio.wait_for(writer.drain(), PATIENCE)
        at += part


async def receive_stream(reader, stream, size):
    at = 0
    while at < size:
        got = await asyncio.wait_for(reader.read(min(CHUNK, size - at)), PATIENCE)
        if not got:
            raise Cut(f"{at} of {size} bytes")
        if got != piece(stream, at, len(got)):
            raise WrongBytes(f"of stream {stream}, in {len(got)} bytes from {at}")
        at += len(got)


async def expect_end(reader):
    if await asyncio.wait_for(reader.read(1), PATIENCE):
        raise WrongBytes("more than was sent")


def reset(writer):
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def both(*sides):
    """Awaits all; the first that fails takes the others with it."""
    tasks = [asyncio.ensure_future(side) for side in sides]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def serve_stream(reader, writer):
    try:
        stream, up, down, resets = HEAD.unpack(await reader.readexactly(HEAD.size))
        if resets == SERVER:
            await both(receive_stream(reader, stream, up // 2),
                       send_stream(writer, stream + 1, down // 2))
            reset(writer)
            return
        await both(receive_stream(reader, stream, up), send_stream(writer, stream + 1, down))
        writer.write_eof()
        await expect_end(reader)
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), PATIENCE)  # what waits here is sent first
    except WrongBytes as wrong:
        print(json.dumps({"what": "tcp", "wrong": str(wrong)}), flush=True)
    except (OSError, Cut, asyncio.IncompleteReadError, asyncio.TimeoutError):
        pass  # clients are killed, and reset
    finally:
        writer.transport.abort()


async def tcp_exchange(where, rng):
    """Bytes both ways."""
    size_max = rng.choices((2_000, 200_000, 6_000_000), (60, 30, 10))[0]
    up, down = (rng.choice((0, rng.randrange(size_max))) for _ in range(2))
    resets = rng.choices((NOBODY, CLIENT, SERVER), (80, 10, 10))[0]
    stream = rng.getrandbits(32) * 2
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection(*where, limit=2 * CHUNK), PATIENCE)
    try:
        writer.write(HEAD.pack(stream, up, down, resets))
        if resets == CLIENT:
            await both(send_stream(writer, stream, up // 2),
                       receive_stream(reader, stream + 1, down // 2))
            reset(writer)
            return (up + down) // 2

        async def upwards():
            await send_stream(writer, stream, up)
            try:
                writer.write_eof()
            except OSError as error:  # "not connected": it was reset meanwhile
                raise ConnectionResetError(str(error)) from error

        async def downwards():
            await receive_stream(reader, stream + 1, down)
            await expect_end(reader)

        try:
            await both(upwards(), downwards())
        except (ConnectionError, Cut):
            if resets != SERVER:
                raise
            return (up + down) // 2
        return up + down
    finally:
        writer.transport.abort()


# ---------------------------------------------------------------- datagrams

async def ask(connection, datagram, matches):
    """Sends until an answer matches; the answer."""
    loop = asyncio.get_running_loop()
    for _ in range(DATAGRAM_TRIES):
        await loop.sock_sendall(connection, datagram)
        until = time.monotonic() + AGAIN
        while (left := until - time.monotonic()) > 0:
            try:
                answer = await asyncio.wait_for(loop.sock_recv(connection, 65_535), left)
            except asyncio.TimeoutError:
                break
            if matches(answer):
                return answer
    raise Lost(f"{DATAGRAM_TRIES} tries")


def datagram_socket(where, protocol=0):
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_DGRAM, protocol)
    connection.setblocking(False)
    connection.connect(where)
    return connection


async def udp_exchange(where, rng):
    total = 0
    with datagram_socket(where) as connection:
        for _ in range(rng.randrange(1, 8)):
            head = struct.pack("!Q", rng.getrandbits(64))
            body = bytes(piece(rng.getrandbits(32), 0, rng.randrange(DATAGRAM_BYTES_MAX)))

            def matches(answer, head=head, body=body):
                if answer[:8] != head:
                    return False  # of one that was sent twice
                if answer[8:] != body:
                    raise WrongBytes(f"of a datagram of {len(body)} bytes")
                return True

            total += 2 * len(await ask(connection, head + body, matches))
    return total


async def ping_exchange(where, rng):
    v6 = ":" in where[0]
    protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    body = bytes(piece(rng.getrandbits(32), 0, rng.randrange(PING_BYTES_MAX)))
    number = rng.getrandbits(16)
    echo = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, number) + body

    def matches(answer):
        if answer[0] != (129 if v6 else 0) or answer[6:8] != echo[6:8]:
            return False
        if answer[8:] != body:
            raise WrongBytes(f"of an echo of {len(body)} bytes")
        return True

    with datagram_socket(where, protocol) as connection:
        return 2 * len(await ask(connection, echo, matches))


# ---------------------------------------------------------------- names

def address_of(name):
    """The four bytes that a name's A record has."""
    return b"\xc6" + hashlib.sha256(name).digest()[:3]


def question(rng):
    label = b"n%d" % rng.getrandbits(40)
    name = bytes([len(label)]) + label + b"\4soak\4test\0"
    return name, struct.pack("!HHHHHH", rng.getrandbits(16), 0x0100, 1, 0, 0, 0) + name + \
        struct.pack("!HH", 1, 1)


def answer_to(message):
    name = message[12:message.index(b"\0", 12) + 1]
    return message[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + \
        message[12:12 + len(name) + 4] + struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + \
        address_of(name)


async def serve_names(reader, writer):
    try:
        size, = struct.unpack("!H", await reader.readexactly(2))
        answer = answer_to(await reader.readexactly(size))
        writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()
        await writer.wait_closed()
    except (OSError, asyncio.IncompleteReadError):
        pass  # who asked is gone
    finally:
        writer.transport.abort()


def check_answer(answer, name):
    if answer[3] & 15:
        raise NoName(f"code {answer[3] & 15}")
    if not answer.endswith(address_of(name)):
        raise WrongBytes("of a name's address")


async def dns_exchange(where, rng):
    name, asked = question(rng)
    if rng.randrange(4):
        with datagram_socket(where) as connection:
            answer = await ask(connection, asked, lambda answer: answer[:2] == asked[:2])
    else:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(*where), PATIENCE)
        try:
            writer.write(struct.pack("!H", len(asked)) + asked)
            size, = struct.unpack("!H", await asyncio.wait_for(reader.readexactly(2), PATIENCE))
            answer = await asyncio.wait_for(reader.readexactly(size), PATIENCE)
        finally:
            writer.transport.abort()
    check_answer(answer, name)
    return len(asked) + len(answer)


# ---------------------------------------------------------------- the two roles

class Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer):
        self.answer = answer

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(self.answer(data), peer)


def bound(address, port):
    """A UDP socket; those of both families have the same port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    server.bind((address, port))
    return server


async def serve(spec):
    loop = asyncio.get_running_loop()
    for address in spec["addresses"]:
        if "tcp" in spec:
            await asyncio.start_server(serve_stream, address, spec["tcp"], limit=2 * CHUNK,
                                       backlog=256)
        if "dns" in spec:
            await asyncio.start_server(serve_names, address, spec["dns"])
        for port, answer in (("udp", bytes), ("dns", answer_to)):
            if port in spec:
                await loop.create_datagram_endpoint(lambda answer=answer: Datagrams(answer),
                                                    sock=bound(address, spec[port]))
    print("ready", flush=True)
    await asyncio.Event().wait()


EXCHANGES = {"tcp": tcp_exchange, "udp": udp_exchange, "ping": ping_exchange,
             "dns": dns_exchange}
# How an exchange ends that does not go well.
KINDS = {WrongBytes: "wrong bytes", Cut: "cut short", Lost: "no answer", NoName: "no such name",
         ConnectionRefusedError: "refused", ConnectionResetError: "reset",
         BrokenPipeError: "reset", asyncio.IncompleteReadError: "cut short",
         asyncio.TimeoutError: "stalled"}


def kind_of(error):
    return next((kind for cause, kind in KINDS.items() if isinstance(error, cause)),
                f"{type(error).__name__}: {error}")


async def exchange_for_ever(spec, rng):
    ways = spec["ways"]
    while True:
        way = rng.choices(ways, [one["weight"] for one in ways])[0]
        result = {"what": way["what"], "peer": way["peer"], "begin": time.monotonic(), "bytes": 0,
                  "error": None}
        try:
            result["bytes"] = await EXCHANGES[way["what"]]((way["address"], way["port"]), rng)
        except (OSError, EOFError, WrongBytes, Cut, Lost, NoName, asyncio.TimeoutError) as error:
            result["error"] = kind_of(error)
            result["detail"] = str(error)
        result["end"] = time.monotonic()
        print(json.dumps(result), flush=True)
        if result["error"]:
            await asyncio.sleep(0.05)  # a server that is away is not asked at full speed


async def be_client(spec):
    print("ready", flush=True)
    await asyncio.gather(*(exchange_for_ever(spec, random.Random(f"{spec['seed']}/{number}"))
                           for number in range(spec["at_once"])))


def main():
    role, spec = sys.argv[1], json.loads(sys.argv[2])
    try:
        asyncio.run({"server": serve, "client": be_client}[role](spec))
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(1)


if __name__ == "__main__":
    main()
