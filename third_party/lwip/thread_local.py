#!/usr/bin/python3
"""Makes lwIP's globals thread-local, and proves that none was forgotten.

lwIP keeps its state in globals, one engine for each process. penstock runs any
number of engines in one process, on any threads. So what is compiled is a copy of
the core in which every mutable global is thread-local; the engine loads the few
values that live between two calls when it is entered and stores them when it
leaves (stack/tcpip). lwIP's own files are never changed.

  thread_local.py generate LWIP_DIR OUT_DIR   when CMake configures: writes the copy
  thread_local.py repair LWIP_DIR FILE OUT    one file with nothing but the repairs below
  thread_local.py check OBJECT...             when it builds: looks for what is left

Both fail the build: `generate` if a definition below is not found exactly once (then
this is another lwIP than the one that the list was made for), `check` if an object
holds a writable symbol that is not thread-local.

Form of the result: `__thread` and hidden visibility. `__thread` and not
`thread_local`, because C++ calls an initialiser function at each access to a foreign
thread_local. Hidden, because the compiler then picks the cheapest model that is
correct where the code ends up: local-exec in a program, local-dynamic in position
independent code. Not initial-exec: that would make a library which holds penstock
impossible to dlopen() once the static TLS space is used up.
"""
import os
import re
import shutil
import subprocess
import sys

VERSION = ("2", "2", "1")

CORE_FILES = ("tcp.c", "tcp_in.c", "tcp_out.c", "pbuf.c", "memp.c", "mem.c", "def.c",
              "inet_chksum.c", "ip.c")

HIDDEN = '__thread __attribute__((visibility("hidden"))) '

# Definitions private to their file: `static` becomes `static __thread`.
PRIVATE = {
    "core/tcp.c": (
        "static u16_t tcp_port = TCP_LOCAL_PORT_RANGE_START;",
        "static u8_t tcp_ext_arg_id;",
        "  static u32_t iss = 6510;",
    ),
    "core/tcp_in.c": (
        "static struct tcp_seg inseg;",
        "static struct tcp_hdr *tcphdr;",
        "static u16_t tcphdr_optlen;",
        "static u16_t tcphdr_opt1len;",
        "static u8_t *tcphdr_opt2;",
        "static u16_t tcp_optidx;",
        "static u32_t seqno, ackno;",
        "static tcpwnd_size_t recv_acked;",
        "static u16_t tcplen;",
        "static u8_t flags;",
        "static u8_t recv_flags;",
        "static struct pbuf *recv_data;",
    ),
}

# Definitions that other files see, and their declarations in the headers.
SHARED = {
    "core/tcp.c": (
        "u32_t tcp_ticks;",
        "struct tcp_pcb *tcp_bound_pcbs;",
        "union tcp_listen_pcbs_t tcp_listen_pcbs;",
        "struct tcp_pcb *tcp_active_pcbs;",
        "struct tcp_pcb *tcp_tw_pcbs;",
        "u8_t tcp_active_pcbs_changed;",
    ),
    "core/tcp_in.c": ("struct tcp_pcb *tcp_input_pcb;",),
    "core/pbuf.c": ("volatile u8_t pbuf_free_ooseq_pending;",),
    "core/ip.c": ("struct ip_globals ip_data;",),
    "include/lwip/priv/tcp_priv.h": (
        "extern struct tcp_pcb *tcp_input_pcb;",
        "extern u32_t tcp_ticks;",
        "extern u8_t tcp_active_pcbs_changed;",
        "extern struct tcp_pcb *tcp_bound_pcbs;",
        "extern union tcp_listen_pcbs_t tcp_listen_pcbs;",
        "extern struct tcp_pcb *tcp_active_pcbs;",
        "extern struct tcp_pcb *tcp_tw_pcbs;",
    ),
    "include/lwip/pbuf.h": ("extern volatile u8_t pbuf_free_ooseq_pending;",),
    "include/lwip/ip.h": ("extern struct ip_globals ip_data;",),
}

# Edits of another kind: (file, text, replacement).
SPECIAL = (
    # The parity of the timers lives between calls: the engine has to reach it.
    ("core/tcp.c", "static u8_t tcp_timer;", HIDDEN + "u8_t tcp_timer;"),
    ("core/tcp.c", "static u8_t tcp_timer_ctr;", HIDDEN + "u8_t tcp_timer_ctr;"),
    # An array of the lists' addresses cannot be a constant any more: built where it
    # is used (binding, connecting, closing a listener), four pointers each time.
    ("core/tcp.c",
     "struct tcp_pcb **const tcp_pcb_lists[] = {&tcp_listen_pcbs.pcbs, &tcp_bound_pcbs,\n"
     "         &tcp_active_pcbs, &tcp_tw_pcbs\n"
     "};",
     "#define tcp_pcb_lists \\\n"
     "  ((struct tcp_pcb **[]){&tcp_listen_pcbs.pcbs, &tcp_bound_pcbs, \\\n"
     "                         &tcp_active_pcbs, &tcp_tw_pcbs})"),
    ("include/lwip/priv/tcp_priv.h",
     "extern struct tcp_pcb ** const tcp_pcb_lists[NUM_TCP_PCB_LISTS];",
     f"extern {HIDDEN}u8_t tcp_timer;\nextern {HIDDEN}u8_t tcp_timer_ctr;"),
)

# Of a segment with data and FIN the data decides: a window that has shrunk since takes at
# least that.
WINDOW_USE = "(seg->len > 0 ? seg->len : (TCPH_FLAGS(seg->tcphdr) & TCP_FIN) != 0)"

# Faults of lwIP 2.2.1 that are repaired in the copy, each with what shows it.
REPAIRS = (
    # A segment with data and FIN that is split keeps its FIN in front, too (TCPH_SET_FLAG
    # only adds flags): the receiver takes the stream to end there and loses the rest.
    # Shown by tests/conformance/scripts and, before the guest's lwIP had this repair, by
    # the simulated world.
    ("core/tcp_out.c",
     "  TCPH_SET_FLAG(useg->tcphdr, split_flags);",
     "  TCPH_FLAGS_SET(useg->tcphdr, split_flags);"),
    # A FIN has a sequence number, and leaves when the window has one for it: sent beyond,
    # it is dropped, and the end of a stream comes when a timer has sent it again. It goes
    # with the last data where both fit and else in a segment of its own, which a closed
    # window's probe carries. And it goes with the last of the stream, which need not be the
    # last that is unsent: there may be an earlier one that is to be sent again, behind which
    # the receiver would take the stream to end. Shown by tests/conformance/scripts and the
    # simulated world.
    ("core/tcp_out.c",
     "    if ((TCPH_FLAGS(last_unsent->tcphdr) & (TCP_SYN | TCP_FIN | TCP_RST)) == 0) {",
     "    if ((TCPH_FLAGS(last_unsent->tcphdr) & (TCP_SYN | TCP_FIN | TCP_RST)) == 0 &&\n"
     "        lwip_ntohl(last_unsent->tcphdr->seqno) + last_unsent->len == pcb->snd_lbb &&\n"
     "        TCP_SEQ_LT(lwip_ntohl(last_unsent->tcphdr->seqno) + last_unsent->len,\n"
     "                   pcb->lastack + pcb->snd_wnd)) {"),
    ("core/tcp_out.c",
     "  if (lwip_ntohl(seg->tcphdr->seqno) - pcb->lastack + seg->len > wnd) {",
     "  if (lwip_ntohl(seg->tcphdr->seqno) - pcb->lastack +\n"
     f"      {WINDOW_USE} > wnd) {{"),
    ("core/tcp_out.c",
     "         lwip_ntohl(seg->tcphdr->seqno) - pcb->lastack + seg->len <= wnd) {",
     "         lwip_ntohl(seg->tcphdr->seqno) - pcb->lastack +\n"
     f"             {WINDOW_USE} <= wnd) {{"),
    # A timeout puts what is in flight in front of what is unsent. A segment that duplicate
    # ACKs have already taken back from there, and that a closed window keeps, comes before
    # it by its number: behind it, the guest would be probed with bytes that it cannot take,
    # and never get those that it lacks. Shown by tests/conformance/scripts and the
    # simulated world.
    ("core/tcp_out.c",
     "  /* Move all unacked segments to the head of the unsent queue.",
     "  for (struct tcp_seg **place = &pcb->unacked; *place != NULL && pcb->unsent != NULL;\n"
     "       place = &(*place)->next) {\n"
     "    struct tcp_seg *first = pcb->unsent;\n"
     "    if (TCP_SEQ_LT(lwip_ntohl(first->tcphdr->seqno), lwip_ntohl((*place)->tcphdr->seqno))) {\n"
     "      pcb->unsent = first->next;\n"
     "      first->next = *place;\n"
     "      *place = first;\n"
     "    }\n"
     "  }\n"
     "  /* Move all unacked segments to the head of the unsent queue."),
)

# Writable by section, but written by the dynamic linker only (constant tables of
# addresses in position independent code).
CONSTANT_SECTIONS = re.compile(r"^\.data\.rel\.ro")
# What the sanitizers and the coverage of the fuzzer add for themselves.
INSTRUMENTATION = re.compile(r"^(__odr_asan|__asan|__ubsan|__tsan|__sancov|__sanitizer|__unnamed_[0-9]|\.L)")


def fail(sentence):
    sys.exit(f"thread_local.py: {sentence}")


def replace_line(path, text, line, new_line):
    """Replaces the one line that starts with `line`; a comment may follow it."""
    found = re.findall(r"^" + re.escape(line), text, re.MULTILINE)
    if len(found) != 1:
        fail(f"{path}: found {len(found)} times, expected once: {line.strip()!r}. This list is "
             f"for lwIP {'.'.join(VERSION)}")
    return re.sub(r"^" + re.escape(line), lambda _: new_line, text, flags=re.MULTILINE)


def edit(path, text):
    for line in PRIVATE.get(path, ()):
        text = replace_line(path, text, line, line.replace("static ", "static __thread ", 1))
    for line in SHARED.get(path, ()):
        prefix = "extern " if line.startswith("extern ") else ""
        text = replace_line(path, text, line, prefix + HIDDEN + line[len(prefix):])
    for special_path, old, new in SPECIAL:
        if special_path == path:
            text = replace_line(path, text, old, new)
    return repair(path, text)


def repair(path, text):
    for repaired_path, old, new in REPAIRS:
        if repaired_path == path:
            text = replace_line(path, text, old, new)
    return text


def repair_file(lwip_dir, path, out):
    check_version(lwip_dir)
    with open(os.path.join(lwip_dir, "src", path), encoding="utf-8") as file:
        write_if_changed(out, repair(path, file.read()))


def check_version(lwip_dir):
    init = os.path.join(lwip_dir, "src/include/lwip/init.h")
    if not os.path.exists(init):
        fail(f"{lwip_dir} holds no lwIP ({init} is missing)")
    with open(init, encoding="utf-8") as file:
        text = file.read()
    found = tuple(re.search(rf"#define LWIP_VERSION_{part}\s+(\d+)", text).group(1)
                  for part in ("MAJOR", "MINOR", "REVISION"))
    if found != VERSION:
        fail(f"{lwip_dir} is lwIP {'.'.join(found)}, penstock needs {'.'.join(VERSION)}")


def write_if_changed(path, text):
    """Keeps the time stamp of what stays the same, so that nothing is rebuilt."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def generate(lwip_dir, out_dir):
    check_version(lwip_dir)
    source = os.path.join(lwip_dir, "src")
    paths = ["core/" + name for name in CORE_FILES]
    for folder in ("include/lwip", "include/lwip/priv", "include/lwip/prot",
                   "include/netif/ppp"):
        paths += sorted(folder + "/" + name for name in os.listdir(os.path.join(source, folder))
                        if name.endswith(".h"))
    unknown = (set(PRIVATE) | set(SHARED) | {path for path, _, _ in SPECIAL}) - set(paths)
    if unknown:
        fail(f"no such file in lwIP: {', '.join(sorted(unknown))}")
    for path in paths:
        with open(os.path.join(source, path), encoding="utf-8") as file:
            write_if_changed(os.path.join(out_dir, path), edit(path, file.read()))


def writable_sections(object_path):
    """{index: name} of the writable sections that are not thread-local."""
    sections = {}
    output = subprocess.run(["readelf", "--section-headers", "--wide", object_path],
                            capture_output=True, text=True, check=True).stdout
    # [ 3] .data  PROGBITS  0000000000000000 000c5f 000000 00  WA  0  0  1
    for match in re.finditer(r"^\s*\[\s*(\d+)\] (\S+)\s+\S+\s+(?:[0-9a-f]+ ){3}[0-9a-f]+\s+"
                             r"([A-Za-z]*)\s", output, re.MULTILINE):
        index, name, flags = match.groups()
        if "W" in flags and "T" not in flags and not CONSTANT_SECTIONS.match(name):
            sections[index] = name
    return sections


def check(object_paths):
    """Every named object in a writable section has to be thread-local."""
    left, thread_local_count = [], 0
    for path in object_paths:
        sections = writable_sections(path)
        output = subprocess.run(["readelf", "--symbols", "--wide", path],
                                capture_output=True, text=True, check=True).stdout
        for line in output.splitlines():
            fields = line.split()
            if len(fields) < 8 or fields[3] in ("SECTION", "FILE", "FUNC"):
                continue
            kind, where, name = fields[3], fields[6], fields[7]
            if kind == "TLS" and where != "UND":
                thread_local_count += 1
            elif (where in sections or where == "COM") and not INSTRUMENTATION.match(name):
                left.append(f"{os.path.basename(path)}: {name} in {sections.get(where, where)}")
    if left:
        fail("lwIP has mutable globals that engines would share:\n  " + "\n  ".join(left))
    # A check that finds nothing of what is surely there has not looked.
    if thread_local_count < 20:
        fail(f"only {thread_local_count} thread-local variables found in {len(object_paths)} "
             "objects: were they compiled from the generated copy?")


def main():
    if not shutil.which("readelf"):
        fail("readelf is missing (package binutils)")
    if len(sys.argv) == 4 and sys.argv[1] == "generate":
        generate(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 5 and sys.argv[1] == "repair":
        repair_file(*sys.argv[2:])
    elif len(sys.argv) > 2 and sys.argv[1] == "check":
        check(sys.argv[2:])
    else:
        fail("usage: generate LWIP_DIR OUT_DIR | repair LWIP_DIR FILE OUT | check OBJECT...")


main()
