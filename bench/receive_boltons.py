"""Receives messages with boltons.socketutils and takes the time.

receive_boltons.py ADDRESS:PORT METHOD COUNT [check]

METHOD is recv_until, read_ns, or buffered: COUNT lines of 17 bytes are fetched
into the buffer, and then received from there. A line with a number on standard
input asks for as many messages; the answer is the nanoseconds that they took.
With check every message is written before that, in hexadecimal digits after
"=".
"""

import socket
import sys
import time

from boltons import socketutils

LINE_SIZE = 17


def main(address, method, count, check=None):
    host, port = address.split(":")
    sock = socket.create_connection((host, int(port)))
    receive = {"recv_until": Lines, "read_ns": Netstrings, "buffered": Buffered}[method](sock, int(count))
    for command in sys.stdin:
        print(receive.run(int(command), check), flush=True)


class Lines:
    def __init__(self, sock, _):
        self.bs = socketutils.BufferedSocket(sock)

    def run(self, n, check):
        recv_until = self.bs.recv_until
        start = time.perf_counter_ns()
        for _ in range(n):
            message = recv_until(b"\n")
            if check:
                print("=" + message.hex())
        return time.perf_counter_ns() - start


class Netstrings:
    def __init__(self, sock, _):
        self.ns = socketutils.NetstringSocket(sock)

    def run(self, n, check):
        read_ns = self.ns.read_ns
        start = time.perf_counter_ns()
        for _ in range(n):
            message = read_ns()
            if check:
                print("=" + message.hex())
        return time.perf_counter_ns() - start


class Buffered:
    def __init__(self, sock, count):
        self.count = count
        self.lines = Lines(sock, count)
        self.lines.bs = socketutils.BufferedSocket(sock, recvsize=count * LINE_SIZE)

    def run(self, n, check):
        total = 0
        for _ in range(n // self.count):
            self.lines.bs.peek(self.count * LINE_SIZE)
            total += self.lines.run(self.count, check)
        return total


main(*sys.argv[1:])
