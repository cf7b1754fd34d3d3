#!/usr/bin/env bash
#
# Guess: bytes before a Subversion server's greeting, such as the words that a login
# shell prints on a tunnel, end the connection with "malformed network data".
# Seen: svn throws away what comes before the first "( " without a word, and works;
# a parenthesis without a space behind it does no harm. In a request an item ends
# only with the white space behind it: `( get-latest-rev ( ) )` is not answered
# until one byte more has come.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download subversion=1.14.2-4+deb12u1 libsvn1=1.14.2-4+deb12u1 \
	libapr1=1.7.2-3+deb12u1 libaprutil1=1.6.3-1+deb12u1 libserf-1-1=1.3.9-11 libutf8proc2=2.8.0-1 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
usr/bin/svnadmin create repository
mkdir config
cat >tunnel <<'END'
#!/bin/sh
printf 'Welcome to host (maintenance on Sunday)\r\nLast login: yesterday\r\n'
exec usr/bin/svnserve -t -r .
END
chmod +x tunnel
printf '[tunnels]\nfinding = ./tunnel\n' >config/config

{
	echo "svn info through a tunnel that greets:"
	usr/bin/svn --config-dir config --non-interactive info --show-item url svn+finding://localhost/repository
	python3 - <<'END'
import re, select, subprocess
server = subprocess.Popen(["usr/bin/svnserve", "-i", "-r", "."], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

def say(words):
    server.stdin.write(words)
    answered = select.select([server.stdout], [], [], 1)[0]
    answer = server.stdout.read(4096) if answered else b"nothing in a second"
    print(words, "->", re.sub(rb" 36:.*", b" 36:...", answer))

select.select([server.stdout], [], [], 5)
server.stdout.read(4096)
say(b"( 2 ( edit-pipeline ) 26:svn://localhost/repository 0: ( ) ) ")
say(b"( ANONYMOUS ( 0: ) ) ")
say(b"( get-latest-rev ( ) )")
say(b"\n")
server.kill()
END
} >got
cat >want <<'END'
svn info through a tunnel that greets:
svn+finding://localhost/repository
b'( 2 ( edit-pipeline ) 26:svn://localhost/repository 0: ( ) ) ' -> b'( success ( ( ANONYMOUS ) 36:...'
b'( ANONYMOUS ( 0: ) ) ' -> b'( success ( ) ) ( success ( 36:...'
b'( get-latest-rev ( ) )' -> b'nothing in a second'
b'\n' -> b'( success ( ( ) 0: ) ) ( success ( 0 ) ) '
END
echo "subversion 1.14.2-4+deb12u1: before the greeting, and behind a request. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
