#!/usr/bin/env bash
#
# Guess: `logger --size 100` bounds what goes out to 100 bytes, header included, as
# its manual says, and a longer message is cut or refused, however it is given.
# Seen: the size counts the text alone. Text on the command line is cut there, with
# exit status 0; the same text from a file or standard input is not cut but sent as
# several messages. With --octet-count an empty line is a message, too, and an LF
# inside an argument is counted, while over TCP without counts it is sent as it is:
# the receiver sees two messages, the second without a header.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download bsdutils=1:2.38.1-5+deb12u3 || exit 2
dpkg -x bsdutils_*.deb .
seq -s ' ' 100 1 140 >text # 163 bytes

cat >receive.py <<'END'
import re, socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
command = ["usr/bin/logger", "--tcp", "--server", "127.0.0.1", "--port", str(listener.getsockname()[1]),
           "--rfc3164", "--tag", "app"] + sys.argv[2:]
status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
conn, _ = listener.accept()
sent = conn.makefile("rb").read()
print(sys.argv[1], "-> exit status", status)
for part in re.split(rb"(?<!\d)(?=\d+ <13>)|(?<!\d )(?=<13>)", sent):
    count, _, message = part.partition(b" <13>")
    if count.isdigit():
        part = b"COUNT <13>" + message if int(count) == len(b"<13>" + message) else b"wrong count " + part
    if part:
        print("  ", re.sub(rb"\w{3} [ \d]\d [\d:]{8} \S+ app: ", b"HEADER ", part))
END
{
	python3 receive.py "argument" --size 100 "$(cat text)"
	python3 receive.py "file" --size 100 --file text
	printf 'a\n\nb' >lines
	python3 receive.py "file with an empty line, counted" --octet-count --file lines
	python3 receive.py "argument with LF, counted" --octet-count $'a\nb'
	python3 receive.py "argument with LF" $'a\nb'
} >got
cat >want <<'END'
argument -> exit status 0
   b'<13>HEADER 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120 121 122 123 124 \n'
file -> exit status 0
   b'<13>HEADER 100 101 102 103 104 105 106 107 108 109 110 111 112 113 114 115 116 117 118 119 120 121 122 123 124 \n'
   b'<13>HEADER 125 126 127 128 129 130 131 132 133 134 135 136 137 138 139 140\n'
file with an empty line, counted -> exit status 0
   b'COUNT <13>HEADER a'
   b'COUNT <13>HEADER '
   b'COUNT <13>HEADER b'
argument with LF, counted -> exit status 0
   b'COUNT <13>HEADER a\nb'
argument with LF -> exit status 0
   b'<13>HEADER a\nb\n'
END
echo "logger of bsdutils 1:2.38.1-5+deb12u3, over TCP: what --size does. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
