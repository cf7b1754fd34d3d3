#!/usr/bin/env bash
#
# Guess: a client greets an rsync daemon with "@RSYNCD: ", its version and a line
# end, and the newer the version the better the chance to be served.
# Seen: 29 is served, and 30, 31 and 32 only with a dot and a subprotocol behind
# them; from 32 on a list of digests must follow, too. And the list of modules ends
# in a mark, "@RSYNCD: EXIT", for version 26, but for 19 at the end of the stream.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download rsync=3.5.0+ds1-0+deb12u1 || exit 2
dpkg -x rsync_*.deb .
mkdir module
printf 'use chroot = no\nlog file = %s/log\n[m]\npath = %s/module\ncomment = files\n' "$dir" "$dir" >conf

python3 - >got <<'END'
import select, socket, subprocess
for version in ["19", "26", "29", "29.0", "30", "30.0", "31", "31.0", "32", "32.0", "32.0 md5"]:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    # With a socket for its input a daemon serves that one client.
    daemon = subprocess.Popen(["usr/bin/rsync", "--daemon", "--config=conf"], stdin=theirs)
    theirs.close()
    stream = ours.makefile("rb")
    stream.readline()  # its own greeting
    ours.sendall(b"@RSYNCD: %s\n" % version.encode())
    if select.select([ours], [], [], 1)[0]:
        print(version, "refused:", stream.read())
    else:
        ours.sendall(b"\n")  # asks for the list of modules
        print(version, "served:", stream.read())
    ours.close()
    daemon.wait()
END
cat >want <<'END'
19 served: b'm              \tfiles\n'
26 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
29 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
29.0 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
30 refused: b'@ERROR: your client omitted the subprotocol value: @RSYNCD: 30\n'
30.0 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
31 refused: b'@ERROR: your client omitted the subprotocol value: @RSYNCD: 31\n'
31.0 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
32 refused: b'@ERROR: your client omitted the subprotocol value: @RSYNCD: 32\n'
32.0 refused: b'@ERROR: your client omitted the digest name list: @RSYNCD: 32.0\n'
32.0 md5 served: b'm              \tfiles\n@RSYNCD: EXIT\n'
END
echo "rsync 3.5.0+ds1-0+deb12u1, as a daemon: the answers to greetings. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
