#!/usr/bin/env bash
#
# Guess: OpenOCD's port for programs marks a failed command, and a line ends one.
# Seen: commands and answers end in 0x1a, LF is a part of the command, and an error
# is its text alone: the answers to `error boom` and to `return boom` are the same
# bytes. What a command prints with puts does not come at all, and `exit` does not
# end the connection: what is behind it is answered.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download openocd=0.12.0-1 libftdi1-2=1.5-6+b2 libgpiod2=1.6.3-1+b3 \
	libhidapi-hidraw0=0.13.1-1 libjaylink0=0.3.1-1 libjim0.81=0.81+dfsg0-2 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
usr/bin/openocd -c 'adapter driver dummy; bindto 127.0.0.1; gdb_port disabled; telnet_port disabled
	tcl_port 16666; noinit' >log 2>&1 &

python3 - >got <<'END'
import socket, time
for attempt in range(50):
    try:
        conn = socket.create_connection(("127.0.0.1", 16666), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)

def receive():
    answer = b""
    while not answer.endswith(b"\x1a"):
        answer += conn.recv(1)
    return answer

for command in [b"return boom", b"error boom", b"nosuch", b"puts hello", b"set a 1\nset a 2", b"", b"exit", b"expr 2"]:
    conn.sendall(command + b"\x1a")
    print(command, "->", receive())
print("with catch")
conn.sendall(b"list [catch {error boom} text] $text\x1a")
print(receive())
END
cat >want <<'END'
b'return boom' -> b'boom\x1a'
b'error boom' -> b'boom\x1a'
b'nosuch' -> b'invalid command name "nosuch"\x1a'
b'puts hello' -> b'\x1a'
b'set a 1\nset a 2' -> b'2\x1a'
b'' -> b'\x1a'
b'exit' -> b'\x1a'
b'expr 2' -> b'2\x1a'
with catch
b'1 boom\x1a'
END
echo "openocd 0.12.0-1, tcl_port: an error looks like a value. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
