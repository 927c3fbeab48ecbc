#!/usr/bin/python3
"""Writes the seeds of those fuzz targets whose inputs are made of binary steps, to
tests/fuzz/corpus/NAME. Each is one thing that a target should know from the start; the
formats are described at the heads of the targets. What a fuzzer found stays beside them:
other names are left alone.

  tests/fuzz/seeds.py [NAME...]
"""
import os
import struct
import sys

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


# ---------------------------------------------------------------- reassembly

def fragment(datagram, offset, length, more=False, other=False):
    head = datagram | (8 if more else 0) | (16 if other else 0)
    return struct.pack(">BHH", head, offset // 8, length)


def pause(tenths):
    return bytes([0xff, tenths, 0, 0, 0])


def cut(datagram, total, size):
    return [fragment(datagram, at, min(size, total - at), at + size < total)
            for at in range(0, total, size)]


def reassembly():
    yield "in_order_4", b"".join(cut(0, 4000, 1480))
    yield "in_order_6", b"".join(cut(1, 4000, 1448))
    yield "backwards", b"".join(reversed(cut(1, 6000, 1448)))
    yield "options", b"".join(cut(2, 3000, 1000))
    yield "extension_header", b"".join(cut(3, 3000, 1000))
    yield "whole_in_one", fragment(0, 0, 1000) + fragment(1, 0, 1000)
    yield "largest_4", b"".join(cut(0, 65515, 16376))
    yield "largest_6", b"".join(cut(1, 65535, 16376))
    yield "too_long", fragment(0, 65528, 16000) + fragment(1, 65528, 8)
    yield "copy", cut(0, 3000, 1480)[0] * 2 + b"".join(cut(0, 3000, 1480)[1:])
    yield "other_copy", (fragment(0, 0, 1480, True) + fragment(0, 0, 1480, True, True) +
                         fragment(0, 1480, 100))
    yield "overlap", fragment(1, 0, 1448, True) + fragment(1, 1440, 1448, True)
    yield "two_ends", fragment(0, 1480, 100) + fragment(0, 2960, 100)
    yield "behind_the_end", fragment(0, 1480, 100) + fragment(0, 2960, 80, True)
    yield "odd_length", fragment(0, 0, 1001, True) + fragment(0, 1008, 8)
    yield "empty", fragment(0, 8, 0) + fragment(1, 0, 0, True)
    yield "time_goes_by", (fragment(0, 0, 1480, True) + pause(101) + fragment(0, 1480, 100) +
                           pause(101) + b"".join(cut(0, 2000, 1480)))
    yield "many_small", b"".join(fragment(4, at * 8, 8, True) for at in range(130))
    yield "mixed", b"".join(a + b for a, b in zip(cut(0, 9000, 1480), cut(1, 9000, 1448)))


# ---------------------------------------------------------------- neighbour

GATEWAY6 = bytes.fromhex("fd000000000000000000000000000002")
GUEST6 = bytes.fromhex("fd000000000000000000000000000015")
GUEST_MAC = bytes.fromhex("020000000015")


def message(kind, addresses=0, hop=0, body=b""):
    return bytes([kind, addresses, hop, len(body)]) + body


def discovery(icmp_type):
    return (icmp_type - 133) * 4 + 2  # not 1 of 4, below 0x60


def neighbour():
    source_mac = b"\x01\x01" + GUEST_MAC
    yield "solicitation", message(discovery(135), 0, 0, GATEWAY6 + source_mac)
    yield "solicitation_multicast", message(discovery(135), 1 * 4, 0, GATEWAY6 + source_mac)
    yield "address_probe", message(discovery(135), 2 + 1 * 4, 0, GATEWAY6)
    yield "probe_with_option", message(discovery(135), 2 + 1 * 4, 0, GATEWAY6 + source_mac)
    yield "for_somebody_else", message(discovery(135), 0, 0, GUEST6 + source_mac)
    yield "hop_limit_64", message(discovery(135), 0, 16, GATEWAY6 + source_mac)
    yield "option_of_no_length", message(discovery(135), 0, 0, GATEWAY6 + b"\x01\x00" + GUEST_MAC)
    yield "router_solicitation", message(discovery(133), 1 + 3 * 4, 0, source_mac) * 10
    yield "router_solicitation_unspecified", message(discovery(133), 2 + 3 * 4)
    yield "advertisement", message(discovery(136), 2 * 4, 0, GUEST6 + b"\x02\x01" + GUEST_MAC)
    yield "router_advertisement", message(discovery(134), 1 + 2 * 4, 0, b"\x00" * 8)
    yield "redirect", message(discovery(137), 0, 0, GUEST6 + GATEWAY6)
    yield "echo_6", message(128, 0, 0, b"abcdefgh")
    yield "listener_report", message(143, 0x80 | 1 + 4 * 4, 0, b"\x04\x00\x00\x00" + GATEWAY6)
    quoted6 = (b"\x60\x00\x00\x00\x04\x00\x06\x40" + GATEWAY6 + GUEST6 +
               struct.pack(">HHIIHHHH", 80, 40000, 1000, 0, 0x5010, 1000, 0, 0))
    yield "too_big", message(0x62, 0, 0, quoted6) + message(0xa2, 0, 0, quoted6)
    quoted4 = (struct.pack(">BBHHHBBH", 0x45, 0, 1500, 1, 0x4000, 64, 6, 0) + bytes([10, 0, 2, 2]) +
               bytes([10, 0, 2, 15]) + struct.pack(">HHIIHHHH", 80, 40000, 1000, 0, 0x5010, 1, 0, 0))
    yield "echo_4", message(8 * 4 + 1, 0, 0, b"abcdefgh") + message(8 * 4 + 1, 1, 0, b"dns")
    yield "unreachable_4", message(3 * 4 + 1, 0, 0, quoted4)
    yield "arp", message(0, 0) + message(0, 1) + message(0, 2) + message(0, 3)
    yield "arp_probe", message(0, 4) + message(0, 5) + message(0, 6)
    yield "arp_spoilt", message(0, 0, 0, bytes([0, 9])) + message(0, 0, 0, bytes([4, 5]))


# ---------------------------------------------------------------- link

def frame(data, flags=0, gso=0, header=0, size=0, start=0, offset=0, wait=0):
    virtio = struct.pack("<BBHHHHH", flags, gso, header, size, start, offset, 1)
    return virtio + bytes([len(data) >> 8 << 4 | wait, len(data) & 0xff]) + data


def behind_length(*frames):
    return b"".join(struct.pack(">I", len(data)) + data for data in frames)


def datagrams(*frames):
    return b"".join(struct.pack(">H", len(data)) + data for data in frames)


def link():
    plain = bytes(range(60))
    mac = bytes.fromhex("525500d10a02") + GUEST_MAC
    tcp4 = (mac + b"\x08\x00" + struct.pack(">BBHHHBBH", 0x45, 0, 1040, 1, 0x4000, 64, 6, 0) +
            bytes([10, 0, 2, 15]) + bytes([192, 0, 2, 80]) +
            struct.pack(">HHIIHHHH", 40000, 80, 1, 1, 0x5010, 1000, 0, 0) + b"d" * 1000)
    yield "plain", bytes([0, 0]) + frame(plain)
    yield "delayed", bytes([5, 7]) + frame(plain, wait=1) * 6
    yield "vouched", bytes([0, 0]) + frame(tcp4, flags=2)
    yield "partial", bytes([0, 0]) + frame(tcp4, flags=1, start=34, offset=16)
    yield "segments", bytes([1, 0]) + frame(tcp4, 1, 1, 54, 500, 34, 16) * 3
    yield "segments_of_none", bytes([0, 0]) + frame(tcp4, 1, 1, 54, 0, 34, 16)
    yield "beyond_the_frame", bytes([0, 0]) + frame(plain, 1, 4, 600, 9, 700, 800)
    yield "udp_segments", bytes([0, 0]) + frame(tcp4, 1, 5, 42, 300, 34, 6)
    yield "unknown_type", bytes([0, 0]) + frame(plain, gso=3) + frame(plain, gso=0x80)
    yield "empty", bytes([0, 0]) + frame(b"") + frame(b"x")
    yield "one_after_another", bytes([15, 15]) + b"".join(
        frame(bytes([i]) * (i * 9), wait=i % 4) for i in range(1, 25))
    yield "stream", bytes([0x80, 255]) + behind_length(plain, b"x", tcp4, plain)
    yield "stream_in_pieces", bytes([0x80, 6]) + behind_length(plain, b"x", plain)
    yield "stream_byte_by_byte", bytes([0x80, 0]) + behind_length(plain, plain)
    yield "stream_cut", bytes([0x80, 40]) + behind_length(plain, tcp4)[:-1]
    yield "stream_of_nothing", bytes([0x80, 90]) + behind_length(plain) + bytes(4) + plain
    yield "stream_too_long", bytes([0x80, 90]) + behind_length(plain) + bytes([0, 1, 0, 65]) + plain
    yield "stream_of_text", bytes([0x80, 255]) + b"GET / HTTP/1.1\r\n"
    yield "datagrams", bytes([0x40, 0]) + datagrams(plain, b"x", tcp4)
    yield "datagrams_at_once", bytes([0x40, 9]) + datagrams(b"VFKT", plain, b"", tcp4, b"VFKT",
                                                            b"VFKX", plain)


# ---------------------------------------------------------------- DHCP client

def reply(kind, options=b"", server=True, address=(10, 0, 2, 15)):
    fixed = struct.pack(">BBBBIHH", 2, 1, 6, 0, 0, 0, 0) + b"\0" * 4 + bytes(address) + b"\0" * 216
    data = fixed + b"\x63\x82\x53\x63" + bytes([53, 1, kind])
    if server:
        data += bytes([54, 4, 10, 0, 2, 2])
    data += options + b"\xff"
    return data + b"\0" * (-len(data) % 4)


def heard(data, wait=0, repair=True):
    return bytes([wait * 2 | (1 if repair else 0), len(data) // 4]) + data


def dhcp_client():
    lease = bytes([51, 4, 0, 0, 14, 16])
    all_options = (lease + bytes([1, 4, 255, 255, 255, 0, 3, 4, 10, 0, 2, 2, 26, 2, 5, 220]) +
                   bytes([6, 8, 10, 0, 2, 3, 8, 8, 8, 8]) +
                   b"\x77\x0e\x04corp\x07example\x00" + bytes([58, 4, 0, 0, 7, 8]))
    given = heard(reply(2, all_options)) + heard(reply(5, all_options))
    yield "given", given
    yield "renewed", given + heard(b"", 11) + heard(reply(5, all_options), 12)
    yield "runs_out", given + heard(b"", 19)
    yield "refused", heard(reply(2, lease)) + heard(reply(6))
    yield "refused_later", given + heard(b"", 11) + heard(reply(6))
    yield "without_server", heard(reply(2, lease, False)) + heard(reply(5, lease, False))
    yield "for_ever", heard(reply(2, lease)) + heard(reply(5, bytes([51, 4, 255, 255, 255, 255])))
    yield "no_time", heard(reply(2, lease)) + heard(reply(5, bytes([51, 4, 0, 0, 0, 0])))
    yield "strange_mask", heard(reply(2, lease)) + heard(
        reply(5, lease + bytes([1, 4, 255, 0, 255, 0])))
    yield "no_address", heard(reply(2, lease, True, (0, 0, 0, 0)))
    yield "pointers", heard(reply(2, lease)) + heard(
        reply(5, lease + b"\x77\x06\x01a\xc0\x00\xc0\x02"))
    yield "overload", heard(reply(2, lease + bytes([52, 1, 3])))
    yield "somebody_else", heard(reply(2, all_options), repair=False)
    yield "short", heard(reply(2)[:240]) + heard(b"\x02\x01\x06\x00")


TARGETS = {"reassembly": reassembly, "neighbour": neighbour, "link": link,
           "dhcp_client": dhcp_client}


def main():
    for name in sys.argv[1:] or TARGETS:
        if name not in TARGETS:
            sys.exit(f"seeds.py knows {', '.join(TARGETS)}, not '{name}'")
        os.makedirs(os.path.join(CORPUS, name), exist_ok=True)
        for seed, data in TARGETS[name]():
            with open(os.path.join(CORPUS, name, seed), "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main()
