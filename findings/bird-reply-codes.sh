#!/usr/bin/env bash
#
# Guess: BIRD's control socket answers as SMTP and FTP do: "1000-" on the lines of a
# reply but the last, "1000 " on that, so a reader of such replies can be used.
# Seen: each line of one reply may have a code of its own, further lines begin with
# a space, and what ends the reply is any code with a space. An error has a single
# line, an empty command is an error, and Go's net/textproto refuses the reply: it
# wants codes of three digits.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download bird2=2.0.12-7 libssh-gcrypt-4=0.10.6-0+deb12u3 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
printf 'router id 192.0.2.1;\nprotocol device {}\n' >conf
usr/sbin/bird -f -c conf -s "$dir/control" -P "$dir/pid" 2>log &
for _ in {1..50}; do [ -S control ] && break; sleep 0.1; done

cat >ask.go <<'END'
package main

import (
	"fmt"
	"net"
	"net/textproto"
	"regexp"
	"time"
)

// end is the last line of a reply, start what tells lines apart.
var (
	end   = regexp.MustCompile(`(?m)^\d{4} .*\n\z`)
	start = regexp.MustCompile(`(?m)^(\d{4}[- ]| ).*`)
)

func main() {
	conn, err := net.Dial("unix", "control")
	if err != nil {
		panic(err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	receive := func() {
		var reply []byte
		for b := make([]byte, 1); !end.Match(reply); reply = append(reply, b...) {
			if _, err := conn.Read(b); err != nil {
				panic(err)
			}
		}
		fmt.Printf("%s", start.ReplaceAll(reply, []byte("$1...")))
	}
	receive()
	for _, command := range []string{"show status", "show protocols", "nosuch", ""} {
		fmt.Println("> " + command)
		fmt.Fprintln(conn, command)
		receive()
	}
	fmt.Println("> show status, read by net/textproto")
	fmt.Fprintln(conn, "show status")
	_, _, err = textproto.NewReader(textproto.NewConn(conn).R).ReadResponse(0)
	fmt.Println(err)
}
END
GOFLAGS=-mod=mod go run ask.go >got || exit 2
cat >want <<'END'
0001 ...
> show status
1000-...
1011-...
 ...
 ...
 ...
 ...
0013 ...
> show protocols
2002-...
1002-...
0000 ...
> nosuch
9001 ...
> 
9001 ...
> show status, read by net/textproto
short response: "1000-BIRD 2.0.12"
END
echo "bird2 2.0.12-7: several codes in one reply. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
