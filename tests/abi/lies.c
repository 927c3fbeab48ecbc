/* Links whose callbacks say anything: how many frames, how long, with what left undone, over frames
 * with wrong bytes in them. What cannot be ends the link; what merely is not so is a frame that is
 * dropped under a name; and no more is touched than was lent, as a sanitizer sees. Fixed seeds. */
#include <string.h>

#include "tests/abi/expect.h"

enum { kStacks = 150, kPasses = 400 };

struct liar {
  uint64_t random;
  uint64_t frames; /* that could be, before the lie */
  int lied;
};

/* SplitMix64. */
static uint32_t Below(struct liar* liar, uint32_t bound) {
  uint64_t z = liar->random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (uint32_t)((z ^ (z >> 31)) % bound);
}

/* ARP: who has 10.0.2.2? And UDP to 10.0.2.3:53, a byte that is no question. */
static const unsigned char kFrames[2][43] = {
    {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0,    0,  0, 0, 0x15, 0x08, 0x06, 0,
     1,    8,    0,    6,    4,    0,    1,    0x02, 0,  0, 0, 0,    0x15, 10,   0,
     2,    15,   0,    0,    0,    0,    0,    0,    10, 0, 2, 2,    0},
    {0x52, 0x55, 0x0a, 0, 2,    2,    0x02, 0,  0,  0,    0,    0x15, 0x08, 0, 0x45,
     0,    0,    29,   0, 1,    0x40, 0,    64, 17, 0x22, 0xbe, 10,   0,    2, 15,
     10,   0,    2,    3, 0x0f, 0xa0, 0,    53, 0,  9,    0,    0,    0}};

static uint32_t LengthOf(struct liar* liar, uint32_t room_bytes) {
  switch (Below(liar, 64)) {
    case 0:
      return Below(liar, 2) == 0 ? 0 : room_bytes + 1 + Below(liar, 1 << 30);
    case 1:
      return room_bytes;
    case 2:
    case 3:
      return 1 + Below(liar, room_bytes);
    default:
      return sizeof kFrames[0] - Below(liar, 2);
  }
}

static uint16_t Any16(struct liar* liar) {
  return (uint16_t)(Below(liar, 2) == 0 ? Below(liar, 80) : Below(liar, 65536));
}

static void Fill(struct liar* liar, struct penstock_frame_to_host* frame) {
  frame->length = LengthOf(liar, frame->room_bytes);
  memset(frame->room, (int)Below(liar, 256), frame->room_bytes); /* all of it is lent */
  memcpy(frame->room, kFrames[Below(liar, 2)], sizeof kFrames[0]);
  for (uint32_t wrong = Below(liar, 3); wrong > 0; --wrong) {
    frame->room[Below(liar, sizeof kFrames[0])] = (uint8_t)Below(liar, 256);
  }
  if (Below(liar, 2) == 0) return;
  frame->offload.checksum = (uint8_t)(Below(liar, 64) == 0 ? Below(liar, 256) : Below(liar, 3));
  frame->offload.gso = (uint8_t)(Below(liar, 64) == 0 ? Below(liar, 256) : Below(liar, 4));
  frame->offload.checksum_start = Any16(liar);
  frame->offload.checksum_offset = Any16(liar);
  frame->offload.segment_bytes = Any16(liar);
  frame->offload.header_bytes = Any16(liar);
}

static int CanBe(const struct penstock_frame_to_host* frame) {
  return frame->length >= 1 && frame->length <= frame->room_bytes &&
         frame->offload.checksum <= PENSTOCK_CHECKSUM_PARTIAL &&
         frame->offload.gso <= PENSTOCK_GSO_UDP;
}

static size_t Receive(void* context, struct penstock_frame_to_host* frames, size_t count) {
  struct liar* liar = context;
  EXPECT(!liar->lied); /* who has lied is not asked again */
  size_t said = Below(liar, count < 3 ? (uint32_t)count + 1 : 4);
  if (Below(liar, 150) == 0) said = Below(liar, 2) == 0 ? SIZE_MAX : count + 1;
  for (size_t i = 0; i < said && i < count; ++i) {
    Fill(liar, &frames[i]);
    liar->lied = !CanBe(&frames[i]);
    if (liar->lied) return said;
    ++liar->frames;
  }
  liar->lied = said > count;
  return said;
}

static size_t Send(void* context, const struct penstock_frame_to_guest* frames, size_t count) {
  struct liar* liar = context;
  EXPECT(!liar->lied && count >= 1);
  for (size_t i = 0; i < count; ++i) {
    size_t bytes = 0;
    for (uint32_t part = 0; part < frames[i].part_count; ++part) {
      bytes += frames[i].parts[part].iov_len;
    }
    EXPECT(bytes == frames[i].length);
  }
  liar->lied = Below(liar, 100) == 0;
  if (liar->lied) return Below(liar, 2) == 0 ? SIZE_MAX : count + 1;
  return Below(liar, 4) == 0 ? Below(liar, (uint32_t)count + 1) : count;
}

/* Frames are consumed, dropped under a name, or wait for the rest of their datagram. */
static void ExpectEachIsCounted(const penstock_stack* stack, const struct liar* liar) {
  uint64_t values[1024], to_host = 0, ends = 0, lies = 0;
  const size_t count = penstock_metrics(stack, values, 1024);
  EXPECT(count <= 1024);
  for (size_t i = 0; i < count; ++i) {
    const char* name = penstock_metric_name(i);
    if (strcmp(name, "frames_to_host") == 0) to_host = values[i];
    if (strcmp(name, "link_framing_errors") == 0) lies = values[i];
    if (strcmp(name, "frames_consumed") == 0 || strcmp(name, "fragments_held") == 0 ||
        strncmp(name, "drop_", 5) == 0) {
      ends += values[i];
    }
  }
  EXPECT(to_host == liar->frames && ends == to_host);
  EXPECT(lies == (uint64_t)liar->lied);
}

int main(void) {
  int lies = 0;
  uint64_t frames = 0;
  for (int seed = 0; seed < kStacks; ++seed) {
    struct liar liar = {.random = (uint64_t)seed};
    const struct penstock_link_callbacks callbacks = {.struct_size = sizeof callbacks,
                                                      .descriptor = -1,
                                                      .context = &liar,
                                                      .receive = Receive,
                                                      .send = Send};
    const struct penstock_link_options options = {
        .struct_size = sizeof options,
        .capabilities = seed % 2 == 0 ? 0 : PENSTOCK_UNSEGMENTED_TCP_TO_HOST};
    /* Nothing leaves this process. */
    const struct penstock_config config = {.struct_size = sizeof config, .platform_policy = "none"};
    penstock_link* link = NULL;
    penstock_stack* stack = NULL;
    EXPECT(penstock_link_from_callbacks(&callbacks, &options, &link) == PENSTOCK_OK);
    EXPECT(penstock_create(&config, link, &stack) == PENSTOCK_OK);
    for (int pass = 0; pass < kPasses && !liar.lied; ++pass) {
      penstock_wake(stack);
      (void)penstock_poll(stack, penstock_now());
      EXPECT(penstock_link_ended(stack) == liar.lied);
    }
    ExpectEachIsCounted(stack, &liar);
    lies += liar.lied;
    frames += liar.frames;
    penstock_destroy(stack);
  }
  EXPECT(lies > kStacks / 2 && frames > 10 * kStacks); /* else nothing was shown */
  return 0;
}
