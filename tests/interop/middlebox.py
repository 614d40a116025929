#!/usr/bin/env python3
"""What networks do to DNS between programs and whom they ask: runs in a namespace of the lab, until it is ended.

    middlebox.py LOG ADDRESS=UPSTREAM=WAY ...

At port 53 of each address it hands questions on to an upstream, in one of the ways below. Each line of the log is a
question: the address it came to, the transport, the name and the number of its type.
"""

import asyncio
import struct
import sys

OPT = 41
FORMERR = 1
# How long an answer is waited for.
PATIENCE = 8


def skip_name(message, at):
    while message[at]:
        if message[at] >= 0xc0:
            return at + 2
        at += message[at] + 1
    return at + 1


def question(message):
    """The name and the type that a query asks for, and where its records begin."""
    labels, at = [], 12
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode("ascii", "replace").lower())
        at += message[at] + 1
    kind, = struct.unpack_from(">H", message, at + 1)
    return ".".join(labels) or ".", kind, at + 5


def without_edns(query):
    """The query without its OPT record, or None if it has none."""
    counts = struct.unpack_from(">HHH", query, 6)
    at = question(query)[2]
    for _ in range(sum(counts)):
        begin = at
        at = skip_name(query, at)
        kind, _, _, length = struct.unpack_from(">HHIH", query, at)
        at += 10 + length
        if kind == OPT:
            return query[:10] + struct.pack(">H", counts[2] - 1) + query[12:begin] + query[at:]
    return None


def formerr(query):
    """RFC 6891 section 7: what a responder that does not know EDNS says."""
    return query[:2] + struct.pack(">HHHHH", 0x8000 | struct.unpack_from(">H", query, 2)[0] & 0x7900 | FORMERR, 0, 0, 0, 0)


async def open_way(query, ask, is_udp):
    return await ask(query)


async def no_udp(query, ask, is_udp):
    return None if is_udp else await ask(query)


async def no_tcp(query, ask, is_udp):
    return await ask(query) if is_udp else None


async def short_udp(query, ask, is_udp):
    """Answers by UDP that older programs would not take are dropped, as fragments often are."""
    answer = await ask(query)
    return None if is_udp and answer and len(answer) > 512 else answer


async def formerr_all(query, ask, is_udp):
    return formerr(query) if without_edns(query) else await ask(query)


async def formerr_udp(query, ask, is_udp):
    return await (formerr_all if is_udp else open_way)(query, ask, is_udp)


async def bare_all(query, ask, is_udp):
    """Queries lose their EDNS, and so their answers come without signatures."""
    return await ask(without_edns(query) or query)


async def bare_udp(query, ask, is_udp):
    return await (bare_all if is_udp else open_way)(query, ask, is_udp)


WAYS = {
    "open": open_way,
    "no-udp": no_udp,
    "no-tcp": no_tcp,
    "short-udp": short_udp,
    "formerr-udp": formerr_udp,
    "bare-udp": bare_udp,
    "formerr": formerr_all,
    "bare": bare_all,
}


class Upstream(asyncio.DatagramProtocol):
    """One question by UDP."""

    def __init__(self, query):
        self.query, self.answer = query, asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        transport.sendto(self.query)

    def datagram_received(self, data, _):
        if not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, _):
        if not self.answer.done():
            self.answer.set_result(None)


async def ask_udp(upstream, query):
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Upstream(query), remote_addr=(upstream, 53))
    try:
        return await asyncio.wait_for(protocol.answer, PATIENCE)
    except TimeoutError:
        return None
    finally:
        transport.close()


async def read_message(reader):
    length, = struct.unpack(">H", await reader.readexactly(2))
    return await reader.readexactly(length)


async def ask_tcp(upstream, query):
    reader, writer = await asyncio.open_connection(upstream, 53)
    try:
        writer.write(struct.pack(">H", len(query)) + query)
        return await asyncio.wait_for(read_message(reader), PATIENCE)
    finally:
        writer.close()


class Box:
    """One address."""

    def __init__(self, address, upstream, way, log):
        self.address, self.upstream, self.way, self.log = address, upstream, WAYS[way], log
        self.tasks = set()

    async def open(self):
        box = self

        class Listener(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, data, peer):
                async def serve():
                    answer = await box.answer(data, ask_udp, True)
                    if answer:
                        self.transport.sendto(answer, peer)

                task = asyncio.ensure_future(serve())
                box.tasks.add(task)
                task.add_done_callback(box.tasks.discard)

        await asyncio.get_running_loop().create_datagram_endpoint(Listener, local_addr=(self.address, 53))
        # Where TCP does not get through, nobody listens.
        if self.way is not no_tcp:
            await asyncio.start_server(self.serve_tcp, self.address, 53)

    async def serve_tcp(self, reader, writer):
        try:
            while True:
                answer = await self.answer(await read_message(reader), ask_tcp, False)
                if not answer:
                    break
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            writer.close()

    async def answer(self, query, ask, is_udp):
        name, kind, _ = question(query)
        print(self.address, "udp" if is_udp else "tcp", name, kind, file=self.log, flush=True)
        return await self.way(query, lambda query: ask(self.upstream, query), is_udp)


async def main():
    with open(sys.argv[1], "a") as log:
        for word in sys.argv[2:]:
            await Box(*word.split("="), log).open()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
