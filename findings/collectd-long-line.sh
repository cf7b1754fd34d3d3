#!/usr/bin/env bash
#
# Guess: collectd's unixsock gives one answer to each line, and an error to a line
# that is too long.
# Seen: a line longer than 1023 bytes is taken for two commands, and gets two
# answers; an empty line gets none. Who counts answers is off by one from then on.
# The count that begins an answer tells how many lines follow for LISTVAL, and how
# many were dispatched, with no line to follow, for none: there it is 0.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download collectd-core=5.12.0-14 || exit 2
dpkg -x collectd-core_*.deb .
cat >conf <<END
BaseDir "$dir"
PIDFile "$dir/pid"
PluginDir "$dir/usr/lib/collectd"
TypesDB "$dir/usr/share/collectd/types.db"
Hostname "node.example.test"
FQDNLookup false
LoadPlugin unixsock
<Plugin unixsock>
	SocketFile "$dir/control"
</Plugin>
END
usr/sbin/collectd -f -C conf >log 2>&1 &
for _ in {1..50}; do [ -S control ] && break; sleep 0.1; done

python3 - >got <<'END'
import re, socket
conn = socket.socket(socket.AF_UNIX)
conn.connect("control")
conn.settimeout(1)

def show(name, command):
    conn.sendall(command)
    answer = b""
    try:
        while True:
            answer += conn.recv(4096)
    except TimeoutError:
        pass
    print(name, "->", re.sub(rb"\d+\.\d{3} ", b"TIME ", answer))

put = b"PUTVAL node.example.test/exec-a/gauge-a interval=10"
show("a value", put + b" 1:1\n")
show("a list", b"LISTVAL\n")
show("an unknown command", b"nosuch\n")
show("an empty line", b"\n")
for values in 138, 150:  # seven bytes each
    line = put + b"".join(b" %d:1" % (1000 + n) for n in range(values)) + b"\n"
    show("%d values in %d bytes" % (values, len(line)), line)
END
cat >want <<'END'
a value -> b'0 Success: 1 value has been dispatched.\n'
a list -> b'1 Value found\nTIME node.example.test/exec-a/gauge-a\n'
an unknown command -> b'-1 Unknown command: nosuch\n'
an empty line -> b''
138 values in 1018 bytes -> b'0 Success: 138 values have been dispatched.\n'
150 values in 1102 bytes -> b'-1 Parsing the values string failed.\n-1 Unknown command: 1\n'
END
echo "collectd-core 5.12.0-14, unixsock: a long line is two. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
