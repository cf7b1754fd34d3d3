#!/usr/bin/env bash
#
# Guess: the text commands of gearmand are answered in lines with one kind of end,
# and the text is plain.
# Seen: answers end in LF, errors and the OK of a setter in CR LF; an error has "+"
# for its spaces, and the command glued to its end. `verbose` is answered "OK ERROR",
# which is the level of its log, and no error. Binary packets share the port and the
# connection: one may stand right behind a line, and a line right behind one.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download gearman-job-server=1.1.20+ds-1 libmariadb3=1:10.11.19-0+deb12u1 libhiredis0.14=0.14.1-3 \
	libevent-2.1-7=2.1.12-stable-8+deb12u1 libevent-pthreads-2.1-7=2.1.12-stable-8+deb12u1 \
	libmemcached11=1.1.4-1 libhashkit2=1.1.4-1 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
usr/sbin/gearmand -L 127.0.0.1 -p 14730 -l "$dir/log" -P "$dir/pid" -u "$(id -un)" >/dev/null 2>&1 &

python3 - >got <<'END'
import socket, time
for attempt in range(50):
    try:
        conn = socket.create_connection(("127.0.0.1", 14730), 5)
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
conn.settimeout(0.5)
echo = b"\0REQ\0\0\0\x10\0\0\0\x03abc"
for sent in [b"version\n", b"status\n", b"maxqueue resize 10\n", b"nosuch\n", b"\n", b"verbose\n",
             b"version\n" + echo + b"version\n"]:
    conn.sendall(sent)
    answer = b""
    try:
        while True:
            answer += conn.recv(4096)
    except TimeoutError:
        print(sent, "->", answer)
END
cat >want <<'END'
b'version\n' -> b'OK 1.1.20+ds\n'
b'status\n' -> b'.\n'
b'maxqueue resize 10\n' -> b'OK\r\n'
b'nosuch\n' -> b'ERR UNKNOWN_COMMAND Unknown+server+commandnosuch\r\n'
b'\n' -> b'ERR UNKNOWN_COMMAND Unknown+server+command\r\n'
b'verbose\n' -> b'OK ERROR\n'
b'version\n\x00REQ\x00\x00\x00\x10\x00\x00\x00\x03abcversion\n' -> b'OK 1.1.20+ds\n\x00RES\x00\x00\x00\x11\x00\x00\x00\x03abcOK 1.1.20+ds\n'
END
echo "gearman-job-server 1.1.20+ds-1: answers to lines. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
