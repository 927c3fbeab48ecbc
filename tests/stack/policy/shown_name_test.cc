#include "stack/policy/shown_name.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/stack/policy/client_hello.h"

namespace penstock {
namespace {

using ShownKind = ShownName::Kind;
using Protocol = ShownName::Protocol;
using Bytes = std::vector<uint8_t>;

std::string ToString(const ShownName& shown) {
  std::string text = shown.protocol == Protocol::kTls    ? "tls "
                     : shown.protocol == Protocol::kHttp ? "http "
                                                         : "other ";
  if (shown.kind == ShownKind::kNeedMore) return text + "need more";
  if (shown.kind == ShownKind::kNone) return text + "none";
  return text + (shown.kind == ShownKind::kName ? "name " + shown.name : "unreadable");
}

Bytes BytesOf(std::string_view text) { return {text.begin(), text.end()}; }

std::string Shown(const Bytes& bytes) { return ToString(FindShownName(bytes)); }
std::string Shown(std::string_view text) { return Shown(BytesOf(text)); }

Bytes Hex(std::string_view text) {
  Bytes bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

void Append(Bytes& to, const Bytes& bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

// `bytes` behind their length.
Bytes Vector(int length_bytes, const Bytes& bytes) {
  Bytes vector;
  for (int i = length_bytes - 1; i >= 0; --i) {
    vector.push_back(static_cast<uint8_t>(bytes.size() >> 8 * i));
  }
  Append(vector, bytes);
  return vector;
}

Bytes Extension(uint16_t type, const Bytes& content) {
  Bytes extension{static_cast<uint8_t>(type >> 8), static_cast<uint8_t>(type)};
  Append(extension, Vector(2, content));
  return extension;
}

Bytes HostName(std::string_view name) {
  Bytes entry{0};
  Append(entry, Vector(2, BytesOf(name)));
  return entry;
}

Bytes ServerName(std::string_view name) { return Extension(0, Vector(2, HostName(name))); }

// A ClientHello, handshake header included; without extensions as TLS 1.0 may have it.
Bytes Handshake(const std::optional<Bytes>& extensions) {
  Bytes body(2 + 32, 3);
  Append(body, Vector(1, Bytes(32, 7)));
  Append(body, Vector(2, {0x13, 0x01}));
  Append(body, Vector(1, {0}));
  if (extensions) Append(body, Vector(2, *extensions));
  Bytes handshake{1};
  Append(handshake, Vector(3, body));
  return handshake;
}

// In records of at most `fragment_bytes`.
Bytes Records(const Bytes& handshake, size_t fragment_bytes = 16'384) {
  Bytes records;
  for (size_t at = 0; at < handshake.size(); at += fragment_bytes) {
    const size_t end = std::min(at + fragment_bytes, handshake.size());
    Append(records, {22, 3, 1});
    Append(records, Vector(2, Bytes(handshake.begin() + static_cast<ptrdiff_t>(at),
                                    handshake.begin() + static_cast<ptrdiff_t>(end))));
  }
  return records;
}

Bytes Hello(const std::optional<Bytes>& extensions) { return Records(Handshake(extensions)); }

// Whatever the bytes are cut into two at, the answer is the same; and no front of them is
// answered otherwise than the whole.
void ExpectShown(const Bytes& bytes, const std::string& expected) {
  EXPECT_EQ(Shown(bytes), expected);
  for (size_t at = 0; at <= bytes.size(); ++at) {
    const std::span<const uint8_t> all(bytes);
    const std::array pieces{all.first(at), all.subspan(at)};
    ASSERT_EQ(ToString(FindShownName(pieces)), expected) << "cut at " << at;
    const ShownName front = FindShownName(all.first(at));
    if (front.kind == ShownKind::kNeedMore) continue;
    ASSERT_EQ(ToString(front), expected) << at << " bytes";
  }
}

TEST(ShownName, RealClientHellos) {
  for (const std::string_view hello : {kHelloTls13, kHelloTls12}) {
    const Bytes bytes = Hex(hello);
    ExpectShown(bytes, "tls name www.example.test");
    EXPECT_EQ(Shown(Bytes(bytes.begin(), bytes.end() - 1)), "tls need more");
  }
  ExpectShown(Hex(kHelloWithoutName), "tls none");
}

TEST(ShownName, AClientHelloMayComeInManyRecords) {
  Bytes padded = ServerName("www.example.test");
  Append(padded, Extension(21, Bytes(700, 0)));
  for (const size_t fragment_bytes : {1u, 2u, 3u, 4u, 5u, 100u, 500u}) {
    ExpectShown(Records(Handshake(padded), fragment_bytes), "tls name www.example.test");
  }
}

TEST(ShownName, WhatFollowsAClientHelloIsNotLookedAt) {
  Bytes bytes = Hello(ServerName("a.test"));
  Append(bytes, {23, 3, 3, 0, 1, 0});
  ExpectShown(bytes, "tls name a.test");
}

TEST(ShownName, NamesAreCanonical) {
  ExpectShown(Hello(ServerName("WWW.Example.Test")), "tls name www.example.test");
  ExpectShown(Hello(ServerName("a.test.")), "tls name a.test");
  ExpectShown(Hello(ServerName("xn--bcher-kva.test")), "tls name xn--bcher-kva.test");
  ExpectShown(Hello(ServerName("_x.test")), "tls name _x.test");
}

TEST(ShownName, ClientHellosWithoutAName) {
  ExpectShown(Hello(std::nullopt), "tls none");
  ExpectShown(Hello(Bytes()), "tls none");
  ExpectShown(Hello(Extension(16, {0})), "tls none");
}

TEST(ShownName, NamesThatAreNone) {
  for (const char* name : {"", ".", "a..test", "192.0.2.1", "192.0.2.1.", "::1", "[::1]", "127.1",
                           "0x7f.0x1", "a b.test", "\xc3\xa4.test", "a.test:443", "*.test"}) {
    EXPECT_EQ(Shown(Hello(ServerName(name))), "tls unreadable") << name;
  }
  EXPECT_EQ(Shown(Hello(ServerName(std::string(64, 'a')))), "tls unreadable");
  EXPECT_EQ(Shown(Hello(ServerName(std::string_view("a.test\0.test", 12)))), "tls unreadable");
}

TEST(ShownName, ServerNamesThatCanBeReadInTwoWays) {
  Bytes twice = ServerName("a.test");
  Append(twice, ServerName("b.test"));
  EXPECT_EQ(Shown(Hello(twice)), "tls unreadable");
  Bytes two_names = HostName("a.test");
  Append(two_names, HostName("b.test"));
  EXPECT_EQ(Shown(Hello(Extension(0, Vector(2, two_names)))), "tls unreadable");
  Bytes other_type = HostName("a.test");
  other_type[0] = 1;
  EXPECT_EQ(Shown(Hello(Extension(0, Vector(2, other_type)))), "tls unreadable");
  EXPECT_EQ(Shown(Hello(Extension(0, Vector(2, {})))), "tls unreadable");
  EXPECT_EQ(Shown(Hello(Extension(0, {}))), "tls unreadable");
  Bytes trailing = Vector(2, HostName("a.test"));
  trailing.push_back(0);
  EXPECT_EQ(Shown(Hello(Extension(0, trailing))), "tls unreadable");
}

TEST(ShownName, ClientHellosThatAreMalformed) {
  const Bytes good = Hello(ServerName("a.test"));
  const auto with = [&good](size_t at, uint8_t byte) {
    Bytes bytes = good;
    bytes[at] = byte;
    return Shown(bytes);
  };
  EXPECT_EQ(with(5, 2), "tls unreadable");     // a ServerHello
  EXPECT_EQ(with(6, 1), "tls unreadable");     // longer than what is looked at
  EXPECT_EQ(with(8, 0), "tls unreadable");     // ends in the random bytes
  EXPECT_EQ(with(43, 255), "tls unreadable");  // a session longer than the rest
  EXPECT_EQ(with(3, 0x80), "tls unreadable");  // a record longer than there may be
  EXPECT_EQ(with(8, good[8] - 1), "tls unreadable");
  EXPECT_EQ(with(8, good[8] + 1), "tls need more");
  Bytes empty_record{22, 3, 1, 0, 0};
  EXPECT_EQ(Shown(empty_record), "tls unreadable");
  Bytes interrupted = Records(Handshake(ServerName("a.test")), 20);
  interrupted[25] = 21;  // an alert between two of its records
  EXPECT_EQ(Shown(interrupted), "tls unreadable");
  EXPECT_EQ(Shown(Bytes(interrupted.begin(), interrupted.begin() + 26)), "tls unreadable");
  interrupted[25] = 22;
  interrupted[26] = 2;
  EXPECT_EQ(Shown(interrupted), "tls unreadable");
}

TEST(ShownName, NothingIsSaidBeforeTheFirstByte) {
  EXPECT_EQ(Shown(""), "other need more");
  EXPECT_EQ(ToString(FindShownName(std::span<const std::span<const uint8_t>>())),
            "other need more");
}

TEST(ShownName, OtherProtocolsAreToldByTheirFirstBytes) {
  for (const char* first : {"\x01", "\x80", "\xff", "\x10\x20", "(", "{", "\x16\x02", "\x16\x16",
                            "\x05\x01", "<stream", "a(", "a{", " {", "\r\n{"}) {
    EXPECT_EQ(Shown(first), "other none") << first;
  }
  EXPECT_EQ(Shown(std::string_view("\0\0\0\x08", 4)), "other none");
  EXPECT_EQ(Shown(Bytes{0x16, 0x03}), "tls need more");
  ExpectShown(BytesOf("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "other none");
  ExpectShown(BytesOf("SSH-2.0-x\n"), "other none");
  ExpectShown(BytesOf("EHLO a.test\r\n"), "other none");
  ExpectShown(BytesOf("*1\r\n$4\r\nPING\r\n"), "other none");
  ExpectShown(BytesOf("get key\r\n"), "other none");
  ExpectShown(BytesOf("GET /\r\n"), "other none");  // HTTP/0.9 has no host
}

TEST(ShownName, RequestsNameTheirHost) {
  const std::string end = "\r\nAccept: */*\r\n\r\n";
  ExpectShown(BytesOf("GET / HTTP/1.1\r\nHost: example.test" + end), "http name example.test");
  ExpectShown(BytesOf("GET / HTTP/1.0\r\nHost: Example.Test:8080" + end), "http name example.test");
  ExpectShown(BytesOf("GET / HTTP/1.1\r\nhOST:\t example.test. \t\r\n\r\n"),
              "http name example.test");
  ExpectShown(BytesOf("GET / HTTP/1.1\nHost: example.test:\n\n"), "http name example.test");
  ExpectShown(BytesOf("\r\n\r\nPOST /a?b HTTP/1.1\r\nX: y\r\nHost: a.test" + end),
              "http name a.test");
  ExpectShown(BytesOf("x-Y!0 * HTTP/1.9\r\nHost: a.test" + end), "http name a.test");
  ExpectShown(BytesOf("OPTIONS * HTTP/1.1\r\nHost: a.test" + end), "http name a.test");
  EXPECT_EQ(Shown("GET / HTTP/1.1\r\nHost: a.test\r\n"), "http need more");
  EXPECT_EQ(Shown("GET / HTT"), "other need more");
  EXPECT_EQ(Shown("G"), "other need more");
  EXPECT_EQ(Shown("\r\n"), "other need more");
}

TEST(ShownName, TargetsNameAHost) {
  const auto shown = [](const std::string& target, const std::string& fields,
                        const std::string& method = "GET") {
    return Shown(method + " " + target + " HTTP/1.1\r\n" + fields + "\r\n");
  };
  EXPECT_EQ(shown("http://A.test/x?y=http://b.test", "Host: a.test\r\n"), "http name a.test");
  EXPECT_EQ(shown("http://a.test:80", "Host: a.test\r\n"), "http name a.test");
  EXPECT_EQ(shown("http://a.test?x", "Host: a.test:81\r\n"), "http name a.test");
  EXPECT_EQ(shown("a.test:443", "Host: a.test\r\n", "CONNECT"), "http name a.test");
  EXPECT_EQ(Shown("GET http://a.test/ HTTP/1.0\r\n\r\n"), "http name a.test");
  // Not every server lets the target take precedence.
  EXPECT_EQ(shown("http://a.test/", "Host: b.test\r\n"), "http unreadable");
  EXPECT_EQ(shown("http://a.test/", "Host:\r\n"), "http unreadable");
  EXPECT_EQ(shown("http://a.test/", ""), "http unreadable");
  EXPECT_EQ(shown("http://u@a.test/", "Host: a.test\r\n"), "http unreadable");
  EXPECT_EQ(shown("http:///", "Host: a.test\r\n"), "http unreadable");
  EXPECT_EQ(shown("://a.test/", "Host: a.test\r\n"), "http unreadable");
  EXPECT_EQ(shown("a.test", "Host: a.test\r\n"), "http unreadable");
  EXPECT_EQ(shown("http:/a.test/", "Host: a.test\r\n"), "http unreadable");
}

TEST(ShownName, AnAddressAsHostNamesNobody) {
  for (const char* host : {"", " ", "192.0.2.1", "192.0.2.1:80", "[2001:db8::1]", "[::1]:8080"}) {
    EXPECT_EQ(Shown("GET / HTTP/1.1\r\nHost:" + std::string(host) + "\r\n\r\n"), "http none")
        << host;
  }
  EXPECT_EQ(Shown("GET / HTTP/1.0\r\n\r\n"), "http none");
}

TEST(ShownName, HostsThatAreNone) {
  for (const char* host : {"a..test",
                           "a.test:x",
                           "a.test:123456",
                           "a test",
                           "a.test, b.test",
                           "a.test/x",
                           "u@a.test",
                           "\xc3\xa4.test",
                           "a%2etest",
                           "::1",
                           "[::1",
                           "[::1]x",
                           "[a.test]",
                           "[192.0.2.1]",
                           "127.1",
                           "0x7f000001",
                           "a.test:1:2",
                           "[",
                           "]",
                           ":x"}) {
    EXPECT_EQ(Shown("GET / HTTP/1.1\r\nHost:" + std::string(host) + "\r\n\r\n"), "http unreadable")
        << host;
  }
}

TEST(ShownName, HeadsThatCanBeReadInTwoWays) {
  const std::string host = "Host: a.test\r\n";
  for (const std::string& fields :
       {host + host, host + "hOst: b.test\r\n", std::string(), "Host : a.test\r\n" + host,
        " folded\r\n" + host, host + " b.test\r\n", "X: y\r\n\tHost: b.test\r\n" + host,
        host + "nonsense\r\n", host + ": x\r\n", host + "X\xc3: y\r\n",
        host + "X: a\rHost: b.test\r\n", host + std::string("X: \0\r\n", 6), host + "X: a\x7f\r\n",
        "\r" + host}) {
    EXPECT_EQ(Shown("GET / HTTP/1.1\r\n" + fields + "\r\n"), "http unreadable") << fields;
  }
  for (const char* line : {"GET  / HTTP/1.1",      "GET / HTTP/1.1 ",
                           "GET\t/ HTTP/1.1",      "GET / x HTTP/1.1",
                           "GET /\tHTTP/1.1",      "GET  HTTP/1.1",
                           "GET HTTP/1.1",         "GET / HTTP/1.",
                           "GET / HTTP/1.10",      "GET / HTTP/2.0",
                           "GET / HTTP/1",         "GET / HTTP/1.x",
                           "GET / http/1.1",       "GET / HTTP/",
                           "GET\r/ HTTP/1.1",      "GET /\x0bHTTP/1.1",
                           " GET / HTTP/1.1",      "\t\r\nGET / HTTP/1.1",
                           "GET /\x01 HTTP/1.1",   "GET / HTTP/1.1\rHost: b.test",
                           "GET / HTTP/1.1 x y z", "GET / HTTP/1.1\r\r"}) {
    EXPECT_EQ(Shown(std::string(line) + "\r\n" + host + "\r\n"), "http unreadable") << line;
  }
}

TEST(ShownName, AProxyHeaderHidesTheName) {
  const std::string request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
  ExpectShown(BytesOf("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request), "other unreadable");
  const std::string version_2("\r\n\r\n\0\r\nQUIT\n\x21\x11", 14);
  EXPECT_EQ(Shown(version_2 + request), "other unreadable");
  EXPECT_EQ(Shown(version_2.substr(0, 11)), "other need more");
}

TEST(ShownName, Http2WithoutTlsIsUnreadable) {
  ExpectShown(BytesOf("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "http unreadable");
}

TEST(ShownName, NoMoreThan16KiBAreLookedAt) {
  const std::string request = "GET / HTTP/1.1\r\nHost: a.test\r\nX: ";
  std::string fits = request + std::string(kShownBytesMax - request.size() - 4, 'x') + "\r\n\r\n";
  EXPECT_EQ(Shown(fits), "http name a.test");
  EXPECT_EQ(Shown(fits + "more"), "http name a.test");
  fits.insert(fits.size() - 4, "x");
  EXPECT_EQ(Shown(fits), "http unreadable");
  EXPECT_EQ(Shown(fits.substr(0, kShownBytesMax - 1)), "http need more");
  EXPECT_EQ(Shown(std::string(kShownBytesMax - 1, 'x')), "other need more");
  EXPECT_EQ(Shown(std::string(kShownBytesMax, 'x')), "other unreadable");
  EXPECT_EQ(Shown(std::string(kShownBytesMax, '\n')), "other unreadable");

  const size_t overhead = Hello(Extension(21, {})).size() + ServerName("a.test").size();
  const auto hello = [&](size_t bytes) {
    Bytes extensions = ServerName("a.test");
    Append(extensions, Extension(21, Bytes(bytes - overhead, 0)));
    return Hello(extensions);
  };
  ASSERT_EQ(hello(kShownBytesMax).size(), kShownBytesMax);
  EXPECT_EQ(Shown(hello(kShownBytesMax)), "tls name a.test");
  const Bytes longer = hello(kShownBytesMax + 1);
  EXPECT_EQ(Shown(longer), "tls unreadable");
  // As its length says so, that is known at once.
  EXPECT_EQ(Shown(Bytes(longer.begin(), longer.begin() + 9)), "tls unreadable");
}

TEST(ShownName, WhatEndedIsNotTrusted) {
  EXPECT_EQ(ToString(EndedName(FindShownName(BytesOf("GET /")), 5)), "other unreadable");
  EXPECT_EQ(ToString(EndedName(FindShownName(Bytes{22, 3}), 2)), "tls unreadable");
  EXPECT_EQ(ToString(EndedName(FindShownName(Bytes()), 0)), "other none");
  const Bytes hello = Hex(kHelloTls13);
  EXPECT_EQ(ToString(EndedName(FindShownName(hello), hello.size())), "tls name www.example.test");
}

}  // namespace
}  // namespace penstock
