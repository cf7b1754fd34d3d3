#!/usr/bin/env bash
#
# Guess: everything that a Gopher server sends but a binary file ends in a line with
# a lone dot, and lines of text that begin with a dot have it doubled.
# Seen: gophernicus ends a menu so, but neither a text file nor an error: those end
# with the connection, and a dot in a text is not doubled, also when it stands alone.
# lynx agrees with it: it removes no dot. In a menu's source a lone dot ends
# the menu there.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download gophernicus=3.1.1-3+b1 libwrap0=7.6.q-32 \
	lynx=2.9.0dev.12-1 lynx-common=2.9.0dev.12-1 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu:$dir/lib/x86_64-linux-gnu
mkdir root
printf 'first\n.\n.hidden\nlast' >root/text.txt
printf '0A text\t/text.txt\n.\n0Another\t/text.txt\n' >root/gophermap

ask() { # SELECTOR, as the network would send it
	printf '%s\r\n' "$1" | REMOTE_ADDR=127.0.0.1 usr/sbin/gophernicus -nr -nv -nf -nh -nm -h gopher.example.test -r root || true
}
{
	for selector in /text.txt /nosuch ''; do
		echo "selector \"$selector\":"
		ask "$selector" | cat -A | sed 's/^Error: .*/Error: .../'
	done
	cat >serve.py <<'END'
import socket
listener = socket.create_server(("127.0.0.1", 17070))
conn, _ = listener.accept()
conn.recv(100)
conn.sendall(b"first\r\n.\r\n..two\r\nlast\r\n.\r\n")
END
	python3 serve.py &
	server=$!
	sleep 1
	echo "lynx, of a text with dots doubled and a lone dot at its end:"
	usr/bin/lynx -cfg=etc/lynx/lynx.cfg -dump gopher://127.0.0.1:17070/0/text
	wait "$server"
} >got 2>&1
cat >want <<'END'
selector "/text.txt":
first^M$
.^M$
.hidden^M$
last^M$
selector "/nosuch":
Error: ...
selector "":
0A text^I/text.txt^Igopher.example.test^I70^M$
.^M$
lynx, of a text with dots doubled and a lone dot at its end:
first
.
..two
last
.

END
echo "gophernicus 3.1.1-3+b1: where a text ends. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
