// The registered numbers that more than one file here uses: EtherTypes, IP
// protocols, ICMP types (IANA's registries of those names).
#ifndef PENSTOCK_STACK_WIRE_PROTOCOLS_H_
#define PENSTOCK_STACK_WIRE_PROTOCOLS_H_

#include <cstddef>
#include <cstdint>

namespace penstock {

inline constexpr uint16_t kEtherTypeIpv4 = 0x0800, kEtherTypeArp = 0x0806, kEtherTypeIpv6 = 0x86dd;

inline constexpr uint8_t kIpProtocolIcmpv4 = 1, kIpProtocolTcp = 6, kIpProtocolUdp = 17,
                         kIpProtocolIcmpv6 = 58;
// Extension headers of IPv6, in place of an IP protocol.
inline constexpr uint8_t kIpv6HopByHop = 0, kIpv6Routing = 43, kIpv6FragmentHeader = 44,
                         kIpv6DestinationOptions = 60;

inline constexpr size_t kIpv4HeaderBytes = 20, kIpv6HeaderBytes = 40, kTcpHeaderBytes = 20,
                        kUdpHeaderBytes = 8, kIcmpHeaderBytes = 8, kArpBytes = 28;
inline constexpr uint32_t kIpv6FragmentHeaderBytes = 8;
// What a length field can say: of IPv4 with the header, of IPv6 without.
inline constexpr uint32_t kIpPacketBytesMax = 65'535;

// Where the checksum stands within the header.
inline constexpr size_t kTcpChecksumOffset = 16, kUdpChecksumOffset = 6, kIcmpChecksumOffset = 2;

inline constexpr uint16_t kArpRequest = 1, kArpReply = 2;

// ICMPv4 (RFC 792)
inline constexpr uint8_t kEchoReply4 = 0, kUnreachable4 = 3, kEchoRequest4 = 8, kTimeExceeded4 = 11;
inline constexpr uint8_t kFragmentationNeeded4 = 4;  // code of kUnreachable4

// ICMPv6 (RFC 4443), neighbour discovery (RFC 4861), MLD (RFC 2710, RFC 3810)
inline constexpr uint8_t kUnreachable6 = 1, kPacketTooBig6 = 2, kTimeExceeded6 = 3,
                         kParameterProblem6 = 4, kEchoRequest6 = 128, kEchoReply6 = 129;
inline constexpr uint8_t kMldQuery = 130, kMldReport = 131, kMldDone = 132, kMldReport2 = 143;
inline constexpr uint8_t kRouterSolicitation = 133, kRouterAdvertisement = 134,
                         kNeighbourSolicitation = 135, kNeighbourAdvertisement = 136,
                         kRedirect = 137;
inline constexpr uint8_t kSourceLinkLayerAddress = 1,  // options of neighbour discovery
    kTargetLinkLayerAddress = 2;
// Types below are errors, types from here on are queries and answers.
inline constexpr uint8_t kIcmpv6FirstInformational = 128;

}  // namespace penstock

#endif  // PENSTOCK_STACK_WIRE_PROTOCOLS_H_
