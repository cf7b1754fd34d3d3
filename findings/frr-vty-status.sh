#!/usr/bin/env bash
#
# Guess: FRR's daemons take lines on their vty sockets, as a person types them, and
# answer with text up to a prompt.
# Seen: a command ends in NUL, not in a line end, and an answer in three NULs and one
# byte of status: 0 done, 2 unknown, 4 incomplete. So the answer to a command that
# succeeds in silence is four NULs, and who stops at the first NUL gets the rest as
# the next answers. A line end in a command is white space; commands may be cut or
# sent together; there is no banner and no prompt.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
chmod 755 "$dir"
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download frr=8.4.4-1.1~deb12u2 libyang2=2.1.30-2 libnss-wrapper=1.1.12-1 \
	libjson-c5=0.16-2 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu:$dir/usr/lib/x86_64-linux-gnu/frr
# The daemon wants two groups that the package would make.
user=$(id -un) group=$(id -gn)
getent passwd >passwd
(getent group; echo "frr:x:990:$user"; echo "frrvty:x:991:$user") >group
touch conf
LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=$dir/passwd NSS_WRAPPER_GROUP=$dir/group \
	usr/lib/frr/staticd -u "$user" -g "$group" -f conf -i "$dir/pid" --vty_socket "$dir" -A 127.0.0.1 -P 0 >log 2>&1 &
for _ in {1..50}; do [ -S staticd.vty ] && break; sleep 0.1; done

python3 - >got <<'END'
import re, socket
conn = socket.socket(socket.AF_UNIX)
conn.connect("staticd.vty")
conn.settimeout(1)
for sent in [b"show version\n", b"\0", b"nosuch\0", b"show\0", b"enable\0", b"\0", b"enable\0nosuch\0"]:
    conn.sendall(sent)
    answer = b""
    try:
        while True:
            answer += conn.recv(65536)
    except TimeoutError:
        print(sent, "->", re.sub(rb"FRRouting.*?\n(?=\0)", b"FRRouting ...\n", answer, flags=re.S))
END
cat >want <<'END'
b'show version\n' -> b''
b'\x00' -> b'FRRouting ...\n\x00\x00\x00\x00'
b'nosuch\x00' -> b'% [STATIC] Unknown command: nosuch\n\x00\x00\x00\x02'
b'show\x00' -> b'% Command incomplete.\n\x00\x00\x00\x04'
b'enable\x00' -> b'\x00\x00\x00\x00'
b'\x00' -> b'\x00\x00\x00\x00'
b'enable\x00nosuch\x00' -> b'\x00\x00\x00\x00% [STATIC] Unknown command: nosuch\n\x00\x00\x00\x02'
END
echo "frr 8.4.4-1.1~deb12u2, staticd.vty: what ends commands and answers. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
