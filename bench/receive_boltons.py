"""Receives messages with boltons.socketutils and takes the time.

receive_boltons.py ADDRESS:PORT METHOD [check]

METHOD is recv_until or read_ns. A line with a number on standard input asks
for as many messages; the answer is the nanoseconds that they took. With check
every message is written before that, in hexadecimal digits after "=".
"""

import socket
import sys
import time

from boltons import socketutils


def main(address, method, check=None):
    host, port = address.split(":")
    sock = socket.create_connection((host, int(port)))
    if method == "recv_until":
        receive = lines(socketutils.BufferedSocket(sock))
    else:
        receive = netstrings(socketutils.NetstringSocket(sock))
    for command in sys.stdin:
        print(receive(int(command), check), flush=True)


def lines(bs):
    def receive(n, check):
        start = time.perf_counter_ns()
        for _ in range(n):
            message = bs.recv_until(b"\n")
            if check:
                print("=" + message.hex())
        return time.perf_counter_ns() - start

    return receive


def netstrings(ns):
    def receive(n, check):
        start = time.perf_counter_ns()
        for _ in range(n):
            message = ns.read_ns()
            if check:
                print("=" + message.hex())
        return time.perf_counter_ns() - start

    return receive


main(*sys.argv[1:])
