/* The C ABI as it is recorded: sizes and places of fields, and values of constants. What is here
 * may be added to, when penstock.h grows at an end, and never changed while the library's name is
 * libpenstock.so.0: programs that were compiled with it run with every later one. 64 bits. */
#include <stddef.h>

#include "stack/penstock.h"

#define SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)
#define AT(type, field, offset) \
  _Static_assert(offsetof(struct type, field) == (offset), #type "." #field)
#define IS(name, value) _Static_assert((name) == (value), #name)

_Static_assert(sizeof(enum penstock_status) == 4, "what calls return");
IS(PENSTOCK_NEVER, UINT64_MAX);
IS(PENSTOCK_OK, 0);
IS(PENSTOCK_INVALID_ARGUMENT, 1);
IS(PENSTOCK_NOT_FOUND, 2);
IS(PENSTOCK_ALREADY_EXISTS, 3);
IS(PENSTOCK_PERMISSION_DENIED, 4);
IS(PENSTOCK_EXHAUSTED, 5);
IS(PENSTOCK_UNAVAILABLE, 6);
IS(PENSTOCK_INTERNAL, 7);
IS(PENSTOCK_PARTIAL_CHECKSUM_TO_GUEST, 1);
IS(PENSTOCK_TCP4_GSO_TO_GUEST, 2);
IS(PENSTOCK_TCP6_GSO_TO_GUEST, 4);
IS(PENSTOCK_UDP_GSO_TO_GUEST, 8);
IS(PENSTOCK_UNSEGMENTED_TCP_TO_HOST, 16);
IS(PENSTOCK_NO_ETHERNET, 32);
IS(PENSTOCK_CHECKSUM_UNKNOWN, 0);
IS(PENSTOCK_CHECKSUM_COMPLETE, 1);
IS(PENSTOCK_CHECKSUM_PARTIAL, 2);
IS(PENSTOCK_GSO_NONE, 0);
IS(PENSTOCK_GSO_TCP4, 1);
IS(PENSTOCK_GSO_TCP6, 2);
IS(PENSTOCK_GSO_UDP, 3);
IS(PENSTOCK_DENIAL_REJECT, 0);
IS(PENSTOCK_DENIAL_SILENCE, 1);
IS(PENSTOCK_DENIAL_PAGE, 2);
IS(PENSTOCK_UDP_ADDRESS_AND_PORT, 0);
IS(PENSTOCK_UDP_ADDRESS, 1);
IS(PENSTOCK_UDP_NONE, 2);
IS(PENSTOCK_LAYER_NONE, 0);
IS(PENSTOCK_LAYER_LINK, 1);
IS(PENSTOCK_LAYER_ADDRESS, 2);
IS(PENSTOCK_LAYER_PLATFORM, 3);
IS(PENSTOCK_LAYER_TENANT, 4);
IS(PENSTOCK_FLOWS_KEEP, 0);
IS(PENSTOCK_FLOWS_RESET, 1);
IS(PENSTOCK_TCP, 0);
IS(PENSTOCK_UDP, 1);
IS(PENSTOCK_ICMP, 2);
IS(PENSTOCK_IDENTITY_GATEWAY, 0);
IS(PENSTOCK_IDENTITY_PRESERVE_SOURCE, 1);
IS(PENSTOCK_IDENTITY_PROXY_PROTOCOL, 2);
IS(PENSTOCK_EVENT_FLOW_OPENED, 0);
IS(PENSTOCK_EVENT_FLOW_CLOSED, 1);
IS(PENSTOCK_EVENT_DENIED, 2);
IS(PENSTOCK_EVENT_NAME, 3);
IS(PENSTOCK_EVENT_LEASE, 4);
IS(PENSTOCK_EVENT_PUBLISHED, 5);
IS(PENSTOCK_EVENT_UNPUBLISHED, 6);
IS(PENSTOCK_EVENT_POLICY_REPLACED, 7);
IS(PENSTOCK_EGRESS, 0);
IS(PENSTOCK_INGRESS, 1);
IS(PENSTOCK_VERDICT_ALLOW, 0);
IS(PENSTOCK_VERDICT_DENY, 1);
IS(PENSTOCK_VERDICT_LOOK, 2);

SIZE(penstock_link_options, 16);
AT(penstock_link_options, mtu_max, 4);
AT(penstock_link_options, capabilities, 8);

SIZE(penstock_offload, 12);
AT(penstock_offload, gso, 1);
AT(penstock_offload, checksum_start, 2);
AT(penstock_offload, checksum_offset, 4);
AT(penstock_offload, segment_bytes, 6);
AT(penstock_offload, header_bytes, 8);

SIZE(penstock_frame_to_host, 32);
AT(penstock_frame_to_host, room_bytes, 8);
AT(penstock_frame_to_host, length, 12);
AT(penstock_frame_to_host, offload, 16);

SIZE(penstock_frame_to_guest, 32);
AT(penstock_frame_to_guest, part_count, 8);
AT(penstock_frame_to_guest, length, 12);
AT(penstock_frame_to_guest, offload, 16);

SIZE(penstock_link_callbacks, 48);
AT(penstock_link_callbacks, descriptor, 4);
AT(penstock_link_callbacks, context, 8);
AT(penstock_link_callbacks, receive, 16);
AT(penstock_link_callbacks, send, 24);
AT(penstock_link_callbacks, ended, 32);
AT(penstock_link_callbacks, release, 40);

SIZE(penstock_config, 376);
AT(penstock_config, mtu, 4);
AT(penstock_config, ipv4_off, 8);
AT(penstock_config, udp_filtering, 16);
AT(penstock_config, dns_intercept, 17);
AT(penstock_config, dns_rebinding_protection_off, 18);
AT(penstock_config, ipv4_gateway, 24);
AT(penstock_config, ipv6_guest, 64);
AT(penstock_config, ipv4_prefix_length, 72);
AT(penstock_config, gateway_mac, 74);
AT(penstock_config, guest_mac, 80);
AT(penstock_config, search_domains, 88);
AT(penstock_config, name_servers, 104);
AT(penstock_config, platform_policy, 112);
AT(penstock_config, tenant_policy, 120);
AT(penstock_config, event_count_max, 128);
AT(penstock_config, udp_mapping_count_max, 140);
AT(penstock_config, buffer_bytes_max, 144);
AT(penstock_config, dial_timeout, 152);
AT(penstock_config, stall_timeout, 176);
AT(penstock_config, warn, 184);
AT(penstock_config, warn_context, 192);
AT(penstock_config, dns_hosts, 200);
AT(penstock_config, dns_zones, 208);
AT(penstock_config, guest_prefixes, 216);
AT(penstock_config, resolv_conf, 224);
AT(penstock_config, dhcp_pool, 232);
AT(penstock_config, dhcp_lease_time, 240);
AT(penstock_config, handshake_timeout, 248);
AT(penstock_config, udp_timeout, 280);
AT(penstock_config, dns_dead_time, 328);
AT(penstock_config, keepalive_probes, 336);
AT(penstock_config, dns_outstanding_max, 356);
AT(penstock_config, admit, 360);
AT(penstock_config, admit_context, 368);

SIZE(penstock_client, 48);
AT(penstock_client, protocol, 4);
AT(penstock_client, guest_port, 6);
AT(penstock_client, client, 8);
AT(penstock_client, host, 28);

SIZE(penstock_endpoint, 20);
AT(penstock_endpoint, port, 16);
AT(penstock_endpoint, family, 18);

SIZE(penstock_port, 88);
AT(penstock_port, id, 4);
AT(penstock_port, protocol, 8);
AT(penstock_port, identity, 9);
AT(penstock_port, bound, 16);
AT(penstock_port, guest, 36);
AT(penstock_port, flows_live, 56);
AT(penstock_port, bytes_to_host, 80);

SIZE(penstock_question, 40);
AT(penstock_question, direction, 4);
AT(penstock_question, protocol, 5);
AT(penstock_question, peer, 8);
AT(penstock_question, name, 32);

SIZE(penstock_answer, 32);
AT(penstock_answer, verdict, 4);
AT(penstock_answer, rule_line, 8);
AT(penstock_answer, rule, 16);
AT(penstock_answer, text, 24);

SIZE(penstock_flow, 104);
AT(penstock_flow, next, 4);
AT(penstock_flow, direction, 8);
AT(penstock_flow, protocol, 9);
AT(penstock_flow, guest, 16);
AT(penstock_flow, peer, 36);
AT(penstock_flow, bytes_to_host, 56);
AT(penstock_flow, bytes_to_guest, 64);
AT(penstock_flow, age, 72);
AT(penstock_flow, name, 80);
AT(penstock_flow, state, 88);
AT(penstock_flow, end, 96);

SIZE(penstock_event, 120);
AT(penstock_event, kind, 4);
AT(penstock_event, layer, 7);
AT(penstock_event, time, 8);
AT(penstock_event, flow, 16);
AT(penstock_event, guest, 24);
AT(penstock_event, peer, 44);
AT(penstock_event, bytes_to_host, 64);
AT(penstock_event, age, 80);
AT(penstock_event, name, 88);
AT(penstock_event, reason, 96);
AT(penstock_event, rule, 104);
AT(penstock_event, rule_line, 112);
