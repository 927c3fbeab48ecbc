// ICMP, neighbour discovery and ARP that broke others: lengths that lie, quotes cut
// anywhere, errors about errors, options without end.
//
// Read first: RFC 1122 3.2.2, RFC 4443 2.4, RFC 4861 6.1 and 7.1.
#include "tests/stack/hostile/hostile_case.h"

namespace penstock::hostile {
namespace {

using enum DropCause;

Transport Icmp(Family family, const IcmpSpec& spec) {
  return IsV4(family) ? Icmpv4Message(spec) : Icmpv6Message(spec);
}
Bytes Frame(Family family, const IcmpSpec& spec) {
  return EthernetFrame(IpPacket(ToGateway(family), Icmp(family, spec)));
}
// What the stack could have sent to the guest.
Bytes OwnPacket(Family family, const Transport& transport) {
  return IpPacket({.source = Peer(family), .destination = Guest(family)}, transport);
}

uint8_t Unreachable(Family family) { return IsV4(family) ? 3 : 1; }

std::vector<Case> Echoes(Family family) {
  const Bytes echo = EthernetFrame(IpPacket(ToGateway(family), EchoRequest(family, Bytes(32, 7))));
  const size_t length_at = kIpAt + (IsV4(family) ? 2 : 4);
  // CVE-2020-10756: the reply was made as long as the IP header said.
  Bytes long_one = echo;
  Put16(long_one, length_at, static_cast<uint16_t>(Get16(echo, length_at) + 64));
  // Shorter than the frame: what is behind is padding, and the checksum does not fit.
  Bytes short_one = echo;
  Put16(short_one, length_at, static_cast<uint16_t>(Get16(echo, length_at) - 16));
  Bytes stub = echo;
  Put16(stub, length_at, IsV4(family) ? 20 + 7 : 7);
  for (Bytes* frame : {&long_one, &short_one, &stub}) {
    if (IsV4(family)) FixIpv4Checksum(*frame);
  }
  Bytes padded = echo;
  padded.resize(padded.size() + 100, 0xee);
  const uint8_t request = IsV4(family) ? 8 : 128, reply = IsV4(family) ? 0 : 129;
  return {
      One("EchoLongerThanItsFrame", family, long_one,
          IsV4(family) ? kIpv4TotalLength : kIpv6PayloadLength),
      One("EchoShorterThanItsChecksum", family, short_one, kIcmpChecksum),
      One("EchoOfSevenBytes", family, stub, kIcmpMalformed),
      One("EchoWithACode", family, Frame(family, {.type = request, .code = 1}), kIcmpIgnored),
      One("ReplyThatNobodyAskedFor", family, Frame(family, {.type = reply, .body = Bytes(8)}),
          kIcmpIgnored),
      {"PaddingIsNotEchoed", family, {padded}, {}, 1},
  };
}

// CVE-2020-22283 is the other direction: what an error of ours quotes.
std::vector<Case> Errors(Family family) {
  const uint8_t type = Unreachable(family), too_big_code = IsV4(family) ? 4 : 0;
  const uint8_t too_big = IsV4(family) ? 3 : 2;
  const Bytes quoted = OwnPacket(family, TcpSegment({.payload = Bytes(40)}));
  std::vector<Bytes> cut_unreachable, cut_too_big;
  for (size_t length = 0; length <= quoted.size(); ++length) {
    const Bytes quote(quoted.begin(), quoted.begin() + static_cast<std::ptrdiff_t>(length));
    cut_unreachable.push_back(Frame(family, {.type = type, .code = 1, .body = quote}));
    cut_too_big.push_back(Frame(
        family, {.type = too_big, .code = too_big_code, .rest_of_header = 600, .body = quote}));
  }
  std::vector<Bytes> header_lengths;
  for (uint8_t first = 0; first < 255; ++first) {
    Bytes quote = quoted;
    quote[0] = first;
    header_lengths.push_back(Frame(family, {.type = type, .code = 3, .body = quote}));
  }
  const Bytes error = OwnPacket(family, Icmp(family, {.type = type, .code = 1, .body = quoted}));
  const Family other = IsV4(family) ? Family::kIpv6 : Family::kIpv4;
  const auto ignored = [&](const char* name, const std::vector<Bytes>& frames) {
    return Case{name, family, frames, {{kIcmpIgnored, frames.size()}}};
  };
  return {
      ignored("UnreachableCutAnywhere", cut_unreachable),
      ignored("TooBigCutAnywhere", cut_too_big),
      ignored("QuoteOfAnyVersionAndHeaderLength", header_lengths),
      ignored("ErrorAboutAnError", {Frame(family, {.type = type, .code = 1, .body = error})}),
      ignored("QuoteOfTheOtherFamily",
              {Frame(family, {.type = type, .code = 1, .body = OwnPacket(other, TcpSegment({}))})}),
      ignored("TooBigForNothing",
              {Frame(family,
                     {.type = too_big, .code = too_big_code, .rest_of_header = 0, .body = quoted}),
               Frame(family, {.type = too_big,
                              .code = too_big_code,
                              .rest_of_header = 0xffff'ffff,
                              .body = quoted})}),
      ignored("TimeExceededAndParameterProblem",
              {Frame(family, {.type = uint8_t(IsV4(family) ? 11 : 3), .body = quoted}),
               Frame(family, {.type = uint8_t(IsV4(family) ? 12 : 4), .body = quoted})}),
  };
}

// Errors of ours about packets of every shape: a quote is a part of what came, never more.
std::vector<Case> Quotes(Family family) {
  const IpAddress nobody = Address(IsV4(family) ? "10.0.2.77" : "fd00::77");
  IpSpec ip{.source = Guest(family), .destination = nobody};
  std::vector<Bytes> frames;
  for (const size_t payload : {0, 1, 7, 500, 1'000, 1'400}) {
    frames.push_back(EthernetFrame(
        IpPacket(ip, TcpSegment({.source_port = static_cast<uint16_t>(1'000 + payload),
                                 .flags = kTcpSyn,
                                 .payload = Bytes(payload, 0x51)}))));
  }
  if (IsV4(family)) {
    ip.options = Bytes(40, 1);
  } else {
    ip.extensions = {{0, {0, 1, 4}}, PaddingOptions(4), PaddingOptions(0)};
  }
  frames.push_back(EthernetFrame(IpPacket(ip, TcpSegment({.flags = kTcpSyn}))));
  return {{"QuotesAreOfWhatCame", family, frames, {}, frames.size()}};
}

std::vector<Case> Ipv4Messages() {
  const Family v4 = Family::kIpv4;
  const auto ignored = [&](const char* name, uint8_t type, size_t body) {
    return One(name, v4, Frame(v4, {.type = type, .body = Bytes(body)}), kIcmpIgnored);
  };
  IpSpec smurf = ToGateway(v4);
  smurf.destination = Address("10.0.2.255");
  IpSpec icmpv6 = ToGateway(v4);
  return {
      ignored("Redirect", 5, 28),
      ignored("SourceQuench", 4, 28),
      ignored("RouterAdvertisementOfIpv4", 9, 8),
      ignored("TimestampRequest", 13, 12),
      ignored("AddressMaskRequest", 17, 4),
      ignored("UnknownType", 255, 0),
      One("Smurf", v4,
          EthernetFrame(IpPacket(smurf, EchoRequest(v4, {1})), {.destination = kBroadcastMac}),
          kBroadcast),
      One("Icmpv6InIpv4", v4, EthernetFrame(IpPacket(icmpv6, {58, Bytes(8)})), kUnknownProtocol),
      One(
          "ArpCutShort", v4,
          [] {
            Bytes frame = ArpFrame({});
            frame.resize(14 + 20);
            return frame;
          }(),
          kFrameTooShort),
      One(
          "ArpWithLongAddresses", v4,
          [] {
            Bytes frame = ArpFrame({});
            Put8(frame, kIpAt + 4, 255);
            return frame;
          }(),
          kArpMalformed),
      One("ArpForTheGuestItself", v4, ArpFrame({.target = kGuest4}), kArpIgnored),
      One("ArpFromTheGateway", v4, ArpFrame({.sender = kGateway4, .target = kGuest4}),
          kFalseSourceAddress),
  };
}

// lwIP's bugs 68144 and 68316, CVE-2020-11901's cousins: option lengths of 0 and past the
// end.
std::vector<Case> Discovery() {
  const Family v6 = Family::kIpv6;
  const auto frame = [](const Transport& message, uint8_t hop_limit = 255) {
    IpSpec ip = ToGateway(Family::kIpv6);
    ip.hop_limit = hop_limit;
    return EthernetFrame(IpPacket(ip, message));
  };
  const auto malformed = [&](const char* name, const Transport& message, uint8_t hops = 255) {
    return One(name, v6, frame(message, hops), kNdpMalformed);
  };
  const auto message = [](uint8_t type, size_t body, uint8_t code = 0) {
    return Icmpv6Message({.type = type, .code = code, .body = Bytes(body)});
  };
  return {
      malformed("OptionOfLengthZero", Solicitation(kGateway6, {1, 0, 0, 0, 0, 0, 0, 0})),
      malformed("OptionPastTheEnd", Solicitation(kGateway6, {1, 2, 0, 0, 0, 0, 0, 0})),
      malformed("OptionOfTwoKilobytes", Solicitation(kGateway6, {1, 255, 0, 0, 0, 0, 0, 0})),
      malformed("OptionWithoutLength", Solicitation(kGateway6, {1})),
      malformed("SecondOptionOfLengthZero",
                Solicitation(kGateway6, {14, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})),
      malformed("SolicitationWithoutTarget", message(135, 12)),
      malformed("SolicitationForAGroup", Solicitation(Address("ff02::1"))),
      malformed("SolicitationFromAfar", Solicitation(kGateway6), 254),
      malformed("SolicitationWithACode", message(135, 20, 1)),
      malformed("AdvertisementWithoutTarget", message(136, 8)),
      malformed("RouterSolicitationWithALyingOption",
                Icmpv6Message({.type = 133, .body = {1, 9, 0, 0, 0, 0, 0, 0}})),
      malformed("RouterAdvertisementCutShort", message(134, 4)),
      malformed("RedirectCutShort", message(137, 20)),
      One("RouterAdvertisementOfTheGuests", v6, frame(message(134, 8)), kNdpIgnored),
      One("RedirectOfTheGuests", v6, frame(message(137, 32)), kNdpIgnored),
      One("SolicitationForTheGuestItself", v6, frame(Solicitation(kGuest6)), kNdpIgnored),
      One("UnknownErrorType", v6, frame(message(127, 40)), kIcmpIgnored),
      One("NodeInformationQuery", v6, frame(message(139, 24)), kIcmpIgnored),
      One("Icmpv4InIpv6", v6, EthernetFrame(IpPacket(ToGateway(v6), {1, Bytes(8)})),
          kUnknownProtocol),
  };
}

std::vector<Case> AllIcmp() {
  std::vector<Case> all = Ipv4Messages();
  for (const auto& cases :
       {Discovery(), InBothFamilies(&Echoes), InBothFamilies(&Errors), InBothFamilies(&Quotes)}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

PENSTOCK_HOSTILE(HostileIcmp, AllIcmp())

}  // namespace
}  // namespace penstock::hostile
