#!/usr/bin/env bash
#
# Guess: a ZMODEM hex header is text, so its line ends in CR LF.
# Seen: sz ends it with CR and 0x8a, an LF with the high bit set, and XON. Who
# searches for "\r\n" in what a modem or a boot loader says finds no end. The line
# "rz" before it ends in CR alone.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download lrzsz=0.12.21-10+deb12u1 || exit 2
dpkg -x lrzsz_*.deb .

echo hello >file
# Nobody answers, so sz says its first words and gives up.
(timeout 5 usr/bin/sz file </dev/null 2>/dev/null || true) >said
python3 - >got <<'END'
said = open("said", "rb").read()
print(said[:3])  # tells a terminal program to start rz
print(said[3:24])  # the first header: two stars, ZDLE, B, 14 hex digits, its end
print(said.count(b"\r\n"), "times CR LF")
END
cat >want <<'END'
b'rz\r'
b'**\x18B00000000000000\r\x8a\x11'
0 times CR LF
END
echo "lrzsz 0.12.21-10+deb12u1: a hex header ends in CR, 0x8a, XON. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
