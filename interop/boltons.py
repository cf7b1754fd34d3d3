"""The Python end of the tests against boltons.socketutils.

    boltons.py check            end with status 0 if boltons is there
    boltons.py scripts          make the calls of the scripts that come as lines
                                of JSON, and print what comes of them
    boltons.py serve KIND       accept one connection and send its messages back
    boltons.py connect KIND ADDRESS COUNT LARGEST
                                send COUNT messages to such a server

KIND is how messages are framed: netstrings, or blocks, which are a line that
says the size, and so many bytes.
"""

import bisect
import errno
import json
import random
import socket
import sys

sys.path.pop(0)  # the folder of this file, which has the name of the package

from boltons import socketutils
from boltons.socketutils import BufferedSocket, NetstringSocket

ABSENT = -2  # as a timeout or a max size: not given
NONE = -1  # the same: None

# Microseconds in a second. A million of them would make sums of floats inexact,
# and calls that end in the moment in which their timeout does a matter of luck.
SECOND = 1 << 20


class Clock:
    """Stands in for the module time. It moves only while a call waits."""

    def __init__(self):
        self.now = 0  # microseconds

    def time(self):
        return self.now / SECOND


class Stuck(Exception):
    """A call without a timeout waits for what never comes."""


class Wire:
    """A socket whose peer does what the script says, when it says so."""

    def __init__(self, clock, script):
        self.clock = clock
        self.segments = [(s['at'], s['data'].encode('latin-1')) for s in script['segments']]
        self.joined = script['joined']  # one recv takes all that has arrived
        self.end, self.reset = script['end'], script['reset']
        self.room, self.breaks = script['room'], script['breaks']
        self.stream = b''.join(data for _, data in self.segments)
        self.ends = []  # where in the stream each segment ends
        for _, data in self.segments:
            self.ends.append(len(data) + (self.ends[-1] if self.ends else 0))
        self.taken = 0  # bytes of the stream
        self.sent = b''  # by the present call
        self.sent_before = 0  # bytes
        self.timeout = None
        self.closed = False

    def gettimeout(self):
        return self.timeout and self.timeout / SECOND

    def settimeout(self, timeout):
        self.check()
        self.timeout = None if timeout is None else int(timeout * SECOND)

    def check(self):
        if self.closed:
            raise OSError(errno.EBADF, 'Bad file descriptor')

    def close(self):
        self.closed = True

    def wait(self, at):
        """Wait until the moment at, or for ever if that is below zero."""
        now = self.clock.now
        if 0 <= at <= now:
            return
        if self.timeout == 0:
            raise BlockingIOError(errno.EAGAIN, 'Resource temporarily unavailable')
        if self.timeout is None:
            if at < 0:
                raise Stuck()
        elif at < 0 or at > now + self.timeout:
            self.clock.now = now + self.timeout
            raise socket.timeout('timed out')
        self.clock.now = at

    def recv(self, size):
        self.check()
        i = bisect.bisect_right(self.ends, self.taken)
        if i == len(self.ends):
            self.wait(self.end)
            if self.reset:
                raise ConnectionResetError(errno.ECONNRESET, 'Connection reset by peer')
            return b''
        self.wait(self.segments[i][0])
        if self.joined:
            while i + 1 < len(self.ends) and self.segments[i + 1][0] <= self.clock.now:
                i += 1
        data = self.stream[self.taken:min(self.ends[i], self.taken + size)]
        self.taken += len(data)
        return data

    def send(self, data):
        self.check()
        while True:
            now, next_event = self.clock.now, self.breaks
            room = -self.sent_before - len(self.sent)
            if 0 <= self.breaks <= now:
                raise BrokenPipeError(errno.EPIPE, 'Broken pipe')
            for at, size in self.room:
                if at <= now:
                    room += size
                else:
                    if next_event < 0 or at < next_event:
                        next_event = at
                    break
            if room > 0:
                self.sent += data[:room]
                return min(room, len(data))
            self.wait(next_event)


def seconds(microseconds):
    return None if microseconds == NONE else microseconds / SECOND


def microseconds(timeout):
    return NONE if timeout is None else int(timeout * SECOND)


def size_or_none(size):
    return None if size == NONE else size


def options(step, *names):
    kwargs = {}
    if 'timeout' in names and step['timeout'] != ABSENT:
        kwargs['timeout'] = seconds(step['timeout'])
    if 'maxsize' in names and step['maxsize'] != ABSENT:
        kwargs['maxsize'] = size_or_none(step['maxsize'])
    if 'flag' in names and step['flag']:
        kwargs['with_delimiter'] = True
    return kwargs


def set_timeout(ns, step):
    ns.settimeout(seconds(step['timeout']))
    ns.bsock.settimeout(seconds(step['timeout']))
    return microseconds(ns.bsock.gettimeout())


def set_blocking(ns, step):
    ns.bsock.setblocking(step['flag'])
    ns.settimeout(ns.bsock.gettimeout())
    return microseconds(ns.bsock.gettimeout())


def set_max_size(ns, step):
    ns.setmaxsize(size_or_none(step['maxsize']))
    ns.bsock.setmaxsize(size_or_none(step['maxsize']))
    return step['maxsize']


def text(step):
    return step['text'].encode('latin-1')


CALLS = {
    'recv': lambda ns, s: ns.bsock.recv(s['size'], **options(s, 'timeout')),
    'recv_size': lambda ns, s: ns.bsock.recv_size(s['size'], **options(s, 'timeout')),
    'peek': lambda ns, s: ns.bsock.peek(s['size'], **options(s, 'timeout')),
    'recv_until': lambda ns, s: ns.bsock.recv_until(text(s), **options(s, 'timeout', 'maxsize', 'flag')),
    'recv_close': lambda ns, s: ns.bsock.recv_close(**options(s, 'timeout', 'maxsize')),
    'send': lambda ns, s: ns.bsock.send(text(s), **options(s, 'timeout')),
    'buffer': lambda ns, s: ns.bsock.buffer(text(s)),
    'flush': lambda ns, s: ns.bsock.flush(),
    'read_ns': lambda ns, s: ns.read_ns(**options(s, 'timeout', 'maxsize')),
    'write_ns': lambda ns, s: ns.write_ns(text(s)),
    'settimeout': set_timeout,
    'setblocking': set_blocking,
    'setmaxsize': set_max_size,
    'close': lambda ns, s: ns.bsock.close(),
}


def run_step(ns, wire, step):
    """Make the call and return what came of it."""
    wire.clock.now = step['at']
    wire.sent = b''
    kind, value = 'ok', None
    try:
        value = CALLS[step['op']](ns, step)
    except Exception as e:
        kind = type(e).__name__
        if kind == 'OSError':
            kind = errno.errorcode[e.errno]
    if isinstance(value, int):
        value = str(value).encode('ascii')
    return {
        'kind': kind,
        'value': (value or b'').decode('latin-1'),
        'clock': wire.clock.now,
        'sent': wire.sent.decode('latin-1'),
        'taken': wire.taken,
        'received': ns.bsock.getrecvbuffer().decode('latin-1'),
        'unsent': ns.bsock.getsendbuffer().decode('latin-1'),
    }


def adopt(ns, wire, effect):
    """Go on from where the other implementation is."""
    ns.bsock.rbuf = effect['received'].encode('latin-1')
    ns.bsock.sbuf[:] = [effect['unsent'].encode('latin-1')]
    wire.taken = effect['taken']
    wire.sent_before += len(effect['sent'])


def run_script(clock, script):
    wire = Wire(clock, script)
    ns = NetstringSocket(wire)
    ns.bsock = BufferedSocket(wire, recvsize=1 << 30)
    set_timeout(ns, script)
    set_max_size(ns, script)
    effects = []
    for step in script['steps']:
        effects.append(run_step(ns, wire, step))
        adopt(ns, wire, step['effect'])
    return effects


def run_scripts():
    clock = socketutils.time = Clock()
    for line in sys.stdin.buffer:
        effects = run_script(clock, json.loads(line))
        sys.stdout.write(json.dumps(effects) + '\n')
        sys.stdout.flush()


class Blocks:
    """Messages with a line before them that says their size."""

    def __init__(self, sock):
        self.bsock = BufferedSocket(sock)

    def write(self, payload):
        self.bsock.buffer(b'%d\r\n' % len(payload))
        self.bsock.buffer(payload)
        self.bsock.flush()

    def read(self):
        size = int(self.bsock.recv_until(b'\r\n'))
        return self.bsock.recv_size(size) if size else b''  # it would wait


class Netstrings:
    def __init__(self, sock):
        ns = NetstringSocket(sock, maxsize=1 << 20)
        self.write, self.read = ns.write_ns, ns.read_ns


KINDS = {'netstrings': Netstrings, 'blocks': Blocks}


def serve(kind):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        print('listening on %s:%d' % listener.getsockname(), flush=True)
        sock, _ = listener.accept()
    with sock:
        peer = KINDS[kind](sock)
        while True:
            try:
                payload = peer.read()
            except socketutils.ConnectionClosed:
                return
            peer.write(payload)


def connect(kind, address, count, largest):
    host, port = address.rsplit(':', 1)
    with socket.create_connection((host, int(port))) as sock:
        peer = KINDS[kind](sock)
        for i in range(int(count)):
            size = random.randrange(1 + (int(largest) >> random.randrange(18))) if i else int(largest)
            payload = random.randbytes(size)
            peer.write(payload)
            if peer.read() != payload:
                sys.exit('message %d of %d bytes came back as another' % (i, size))
    print(count, 'messages came back')


if __name__ == '__main__':
    mode, args = sys.argv[1], sys.argv[2:]
    {'check': lambda: None, 'scripts': run_scripts, 'serve': serve, 'connect': connect}[mode](*args)
