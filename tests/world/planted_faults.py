#!/usr/bin/python3
"""Plants faults in a copy of the tree, one at a time, and counts how many seeds of the
simulated world it takes to find each. So the oracles themselves are tested.

  planted_faults.py COPY [--seeds N] [NAME...]

COPY is a folder that is made, or used again (then building is quick). Prints a table for
tests/world/README.md; ends with status 1 if a fault was not found.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("relay", "publisher", "stack", "tests", "third_party", "tools", "bench", "CMakeLists.txt",
           "CMakePresets.json", "README.md")

# name, file, what stands there (once), what is planted, what it does; where several
# places change, both are tuples
FAULTS = (
    ("lost wake", "relay/relay.cc",
     "  MarkReady(pipe.ready_for_stack, to_stack_, pipe);\n  stack_doorbell_.RingIfArmed();",
     "  MarkReady(pipe.ready_for_stack, to_stack_, pipe);",
     "the relay has something for the stack and does not ring"),
    ("bytes lost behind others", "relay/tcp_task.h",
     "(unwritten_head_ == nullptr ? unwritten_head_ : unwritten_tail_->next) = first;",
     "if (unwritten_head_ == nullptr) unwritten_head_ = first;",
     "the guest's bytes are dropped where others still wait for the socket"),
    ("FIN not forwarded", "stack/flow/tcp_flows.cc",
     "flow.pcb.guest_fin && !flow.fin_to_relay)",
     "flow.pcb.guest_fin && !flow.fin_to_relay && !told)",
     "a FIN that comes with data is not passed on"),
    ("credit leaked", "relay/tcp_task.h",
     "    decisions_.OnBlockReturned(block->capacity);",
     "    if (block->length != 128) decisions_.OnBlockReturned(block->capacity);",
     "a block of 128 bytes is not given back as credit"),
    ("acknowledgement held", "stack/flow/tcp_acknowledge.cc",
     "    if (wait.waiting && wait.since > since) {",
     "    if (wait.waiting && wait.skip == 0) {",
     "an acknowledgement waits as long as no data takes it along"),
    ("timer not armed", "stack/flow/tcp_flows.cc",
     "    if (ticking_.empty()) next_tick_ = now_ + kTick;",
     "    if (ticking_.empty() && next_tick_ != kNever) next_tick_ = now_ + kTick;",
     "the first flow that needs lwIP's tick does not get it"),
    ("reset swallowed", "relay/tcp_task.h",
     "    decisions_.OnAbort();\n  }\n  decisions_.OnCredit",
     "    if (decisions_.unwritten_bytes() == 0) decisions_.OnAbort();\n  }\n  decisions_.OnCredit",
     "the guest's reset is lost if its bytes are still unwritten"),
    ("off-by-one window", "stack/flow/tcp_flows.cc",
     "  engine_.Consume(flow.pcb, bytes);",
     "  engine_.Consume(flow.pcb, bytes + (bytes > 4000 ? 1 : 0));",
     "the window opens by one byte too many"),
    ("double free", "stack/flow/tcp_end.cc",
     "    buffer->pool->Give(buffer);\n  }\n  flow.pending_tail",
     "    buffer->pool->Give(buffer);\n    buffer->pool->Give(buffer);\n  }\n  flow.pending_tail",
     "bytes that wait when their flow is reset are given back twice"),
    ("stale TIME_WAIT", "stack/flow/tcp_open.cc",
     ("if (!is_syn || !SequenceBefore(state->receive_next - 1, packet.tcp.sequence)) {",
      "    if (reset && packet.tcp.sequence == state.receive_next) time_wait_.Remove(tuple);\n"),
     ("if (true) {", ""),
     "a tuple that rests is given to nobody"),
    ("unordered close", "stack/flow/tcp_flows.cc",
     "      if (flow.pending_head != nullptr || !flow.fin_to_relay) {",
     "      if (!flow.pcb.guest_fin) {",
     "a flow is closed before its last bytes have found a place in the pipe"),
    ("listener never resumed", "stack/flow/tcp_inbound.cc",
     "  relays_[port.relay_index]->ResumePorts();\n",
     "",
     "a listener that paused for the guest's sake is not told to go on"),
    ("client refused politely", "tests/world/sim_listener.cc",
     "peer_->CloseByRelay(true)", "peer_->CloseByRelay(false)",
     "a client that no flow was opened for sees an end, not a reset"),
    ("fragments uncounted", "stack/wire/reassembly.cc",
     "  counters_.Drop(cause, set.piece_count);",
     "  counters_.Drop(cause, set.piece_count > 2 ? 2 : set.piece_count);",
     "of a set that is dropped, two frames are counted at most"),
    ("fragment at the wrong place", "stack/wire/reassembly.cc",
     "fragment.payload.end(), set.payload() + piece.begin);",
     "fragment.payload.end(), set.payload() + (piece.begin & ~uint32_t{0x1000}));",
     "beyond 4 KiB, parts of a datagram land before their place"),
    ("error swallowed by a read", "relay/tcp_task.h",
     "    decisions_.OnHostError(got.error);\n  }\n  block.length",
     "  }\n  block.length",
     "a real one: the error that a read into a block meets is cleared by it"),
    ("FIN in front of a split", "third_party/lwip/thread_local.py",
     "  TCPH_FLAGS_SET(useg->tcphdr, split_flags);",
     "  TCPH_SET_FLAG(useg->tcphdr, split_flags);",
     "a real one, lwIP's: a split segment keeps its FIN in front (here the guest's, too)"),
    ("lost wake of a datagram", "relay/udp_task.h",
     "  pipe_->to_guest.PushChain(newest, oldest);\n  relay_.TellStack(*pipe_);",
     "  pipe_->to_guest.PushChain(newest, oldest);\n  relay_.TellStackLater(*pipe_);",
     "datagrams for the stack are marked, and its bell is not rung"),
    ("answer to the wrong peer", "stack/flow/udp_ports.cc",
     "  datagram->path = peer.path;",
     "  datagram->path = port.order.oldest()->path;",
     "an answer goes to whom the port heard of least recently"),
    ("datagram leaked on removal", "stack/flow/datagram_ends.cc",
     "    GiveBack(end, end.waiting_head);\n    end.waiting_head = next;",
     "    if (next == nullptr) GiveBack(end, end.waiting_head);\n    end.waiting_head = next;",
     "of the datagrams that wait when their port is removed, the last is given back"),
    ("datagram given back early", "stack/flow/datagram_ends.cc",
     "      in_batch_.emplace_back(&end, datagram);",
     "      datagram->length < 3000 ? in_batch_.emplace_back(&end, datagram)\n"
     "                              : (GiveBack(end, datagram), in_batch_.emplace_back());\n"
     "      if (in_batch_.back().first == nullptr) in_batch_.pop_back();",
     "a long datagram goes back while frames refer to it"),
    ("peer that outlives its time", "stack/flow/udp_peers.cc",
     "      timeout_(timeout),",
     "      timeout_(2 * timeout),",
     "peers are forgotten after twice the timeout"),
    ("full socket forgotten", "relay/udp_task.h",
     "    self->waiting_writable_ = false;\n    if (self->open_) self->Write();",
     "    self->waiting_writable_ = false;",
     "when the host's socket takes datagrams again, nothing is written"),
    ("answers refresh nothing", "stack/flow/mappings.cc",
     "  conversation->answered = true;\n  Use(*conversation, now);",
     "  conversation->answered = true;",
     "an answer does not lengthen what is remembered of who was asked"),
    ("last word untold", "stack/flow/datagram_ends.cc",
     "  end.pipe->stack_done.store(true, std::memory_order_seq_cst);\n  MarkForRelay(end);",
     "  end.pipe->stack_done.store(true, std::memory_order_seq_cst);",
     "of a mapping or a port that is over, the relay is not told"),
    ("error with the wrong port", "stack/flow/guest_datagrams.cc",
     "  const Endpoint peer{SeenAs(datagram.path.peer.address), datagram.path.peer.port};",
     "  const Endpoint peer{SeenAs(datagram.path.peer.address),\n"
     "                      static_cast<uint16_t>(datagram.path.peer.port + 1)};",
     "an ICMP error quotes another port than the guest asked"),
    ("filter off", "stack/flow/mappings.cc",
     "    if (limits_.filtering != UdpFiltering::kNone || mapping.used_until <= now) return false;",
     "    if (mapping.used_until <= now) return false;",
     "whoever sends to a mapping is heard, although the guest did not ask"),
    ("segment cut one byte early", "stack/flow/guest_datagrams.cc",
     "    const auto part = rest.first(std::min(each, rest.size()));",
     "    const auto part = rest.first(std::min(each - (each > 1'000 ? 1 : 0), rest.size()));",
     "of a super-segment of the guest's, long datagrams are cut a byte early"),
    ("the newest gives way", "stack/flow/mappings.h",
     "  [[nodiscard]] Mapping* oldest() const { return order_.oldest(); }",
     "  [[nodiscard]] Mapping* oldest() const {\n"
     "    Mapping* last = order_.oldest();\n"
     "    while (last->in_order.newer != nullptr) last = last->in_order.newer;\n"
     "    return last;\n  }",
     "at the limit, the mapping used last is closed"),
    ("wish for datagrams unheard", "stack/flow/datagram_ends.cc",
     "gave_back_[i] && relays_[i]->wants_datagrams();", "false;",
     "a stream waits for datagrams, and the stack gives them back without ringing"),
    ("length cut in two", "relay/framed_task.h",
     "    if (length_bytes_ < kLengthBytes) break;",
     "    if (length_bytes_ < kLengthBytes) {\n      length_bytes_ = 0;\n      break;\n    }",
     "of a message's length, a first byte that is read alone is forgotten"),
    ("part of a message twice", "relay/framed_task.h",
     "  unsent_offset_ = static_cast<uint32_t>(bytes);",
     "  unsent_offset_ = 0;",
     "a message that left in part is written again from the front"),
    ("finished stream forgotten", "stack/dns/dns_streams.cc",
     "void DnsStreams::OnHome(DatagramEnd& end) { Settle(static_cast<Connection&>(end), true); }",
     "void DnsStreams::OnHome(DatagramEnd&) {}",
     "a connection to DNS is not looked at again when its last answer has left"),
    ("message beyond the last", "stack/dns/dns_streams.cc",
     "  if (connection.questions.all() || connection.bytes_out > kUnsentBytesMax) {",
     "  if (connection.bytes_out > kUnsentBytesMax) {",
     "a connection to DNS is read although its questions are as many as allowed"),
    ("bytes passed while looking", "stack/flow/tcp_flows.cc",
     "  if (flow.state == FlowState::kOpen && !flow.looking && !flow.answering) {",
     "  if (flow.state == FlowState::kOpen && !flow.answering) {",
     "the guest's bytes go on before the name is known that they show"),
    ("name waited for without end", "stack/flow/tcp_timers.cc",
     "      if (IsWaitedFor(flow)) {\n", "      if (flow.denied && IsWaitedFor(flow)) {\n",
     "a guest that shows half a name is waited for as long as it lives"),
    ("half-closed flows uncut", "stack/flow/tcp_look.cc",
     "    if (flow.state == FlowState::kClosing || flow.denied",
     "    if (flow.pcb.guest_fin || flow.host_eof) return;\n"
     "    if (flow.state == FlowState::kClosing || flow.denied",
     "a new policy leaves flows alone of which one end has finished"),
    ("end of the denied untold", "stack/flow/tcp_end.cc",
     "  if (flow.number != 0) {", "  if (flow.number != 0 && end != FlowEnd::kDenied) {",
     "of a flow that the policy ends, no event tells that it has ended"),
    ("denied client accepted", "stack/flow/tcp_inbound.cc",
     "gate_.Ask(question) == Verdict::kDeny) {", "gate_.Ask(question) == Verdict::kLook) {",
     "a client whom the policy denies reaches the guest all the same"),
    ("last bytes of the denied", "stack/flow/tcp_timers.cc",
     "    NoteRecord(flow);  // what came", "    // what came",
     "a real one: what comes in the pass that ends the wait for a name goes to the host"),
    ("page behind the host's word", "stack/flow/tcp_look.cc",
     "  if (flow.bytes_to_guest > 0 || flow.block_bytes > 0) return false;\n", "",
     "a real one: a guest gets the page in the middle of what the host says"),
    ("cut by nobody's rule", "stack/flow/tcp_look.cc",
     "    if (flow.port == nullptr && IsLocal(flow.tuple.destination)) return;\n", "",
     "a real one: a new policy cuts connections to the stack's own DNS"),
    ("probes overdue at once", "stack/flow/tcp_timers.cc",
     "  flow.last_heard = std::max(flow.last_heard, now_ - due_after);\n", "",
     "after a jump of the clock all keepalive probes leave at once, and a reset behind them"),
)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def make_copy(copy):
    os.makedirs(copy, exist_ok=True)
    for name in FOLDERS:
        source, target = os.path.join(ROOT, name), os.path.join(copy, name)
        if os.path.isdir(source):
            subprocess.run(["cp", "-a", "--no-target-directory", source, target], check=True)
        else:
            shutil.copy2(source, target)
    # The copies are as old as their sources: what was planted last is to be built anew.
    for _, path, *_ in FAULTS:
        os.utime(os.path.join(copy, path))
    subprocess.run(["cmake", "-S", copy, "-B", copy + "/build", "-G", "Ninja",
                    "-DCMAKE_BUILD_TYPE=RelWithDebInfo"], check=True, stdout=subprocess.DEVNULL)


def build(copy):
    built = subprocess.run(["ninja", "-C", copy + "/build", "sim"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
    if built.returncode != 0:
        sys.exit(built.stdout[-3000:] + "\nplanted_faults.py: the copy does not build")


def first_failure(copy, seeds):
    """(number of seeds it took, what was said), or None."""
    ran = subprocess.run([copy + "/build/bin/sim", f"--runs={seeds}", "--failures=1", "--jobs=2",
                          "--shrink-runs=0"],
                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.search(r"^seed (\d+): (.*)$", ran.stdout, re.MULTILINE)
    return (int(found.group(1)), found.group(2)) if found else None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("copy")
    parser.add_argument("--seeds", type=int, default=10000)
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    copy = os.path.abspath(options.copy)
    unknown = set(options.names) - {fault[0] for fault in FAULTS}
    if unknown:
        sys.exit(f"planted_faults.py: there is no fault {', '.join(sorted(unknown))}")
    make_copy(copy)
    missed = []
    print("| fault | what it does | seeds | said |\n| --- | --- | --- | --- |", flush=True)
    for name, path, old, new, what in FAULTS:
        if options.names and name not in options.names:
            continue
        target = os.path.join(copy, path)
        text = read(target)
        planted = text
        for one_old, one_new in zip(*((old, new) if isinstance(old, tuple) else ((old,), (new,)))):
            if planted.count(one_old) != 1:
                sys.exit(f"planted_faults.py: {name}: {path} holds "
                         f"{planted.count(one_old)} times: {one_old}")
            planted = planted.replace(one_old, one_new)
        write(target, planted)
        build(copy)
        found = first_failure(copy, options.seeds)
        write(target, text)
        if found is None:
            missed.append(name)
        seeds, said = found or ("not found", "")
        said = re.sub(r"\S*\.\S*:\d+ > \S+|\[\S+\]:\d+ > \S+", "…", said)
        print(f"| {name} | {what} | {seeds} | {said} |", flush=True)
    if missed:
        sys.exit(f"planted_faults.py: not found within {options.seeds} seeds: {', '.join(missed)}")


if __name__ == "__main__":
    main()
