#!/usr/bin/env bash
#
# Guess: an SMTP reply that is a code and nothing else, "250\r\n", which RFC 5321
# (4.2) tells clients to accept, is accepted by Go's net/smtp as by others.
# Seen: net/smtp gives up at the first one, "short response", as net/textproto wants
# a space or a hyphen behind the code. Python's smtplib and nodemailer send their
# mail to a server that never says more than a code.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-fund --no-audit nodemailer@10.6.1 >/dev/null || exit 2
export GOTOOLCHAIN=go1.26.8

cat >serve.py <<'END'
# Serves one client with codes alone, and runs the command that is to be it.
import socket, subprocess, sys, threading

def serve(listener):
    conn, _ = listener.accept()
    lines = conn.makefile("rb")
    reply = lambda code: conn.sendall(code + b"\r\n")
    reply(b"220")
    for line in lines:
        verb = line[:4].upper()
        if verb == b"DATA":
            reply(b"354")
            while lines.readline() not in (b".\r\n", b""):
                pass
        reply(b"221" if verb == b"QUIT" else b"250")

listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(listener,), daemon=True).start()
port = str(listener.getsockname()[1])
client = subprocess.run([word.replace("PORT", port) for word in sys.argv[1:]], capture_output=True, text=True, timeout=60)
print("  ", (client.stdout + client.stderr).strip().splitlines()[-1:] or "no words", "exit status", client.returncode)
END
cat >send.go <<'END'
package main

import (
	"fmt"
	"net/smtp"
	"os"
)

func main() {
	err := smtp.SendMail("127.0.0.1:"+os.Args[1], nil, "a@example.test", []string{"b@example.test"}, []byte("hello\r\n"))
	fmt.Println("net/smtp:", err)
}
END
cat >send.py <<'END'
import smtplib, sys
smtp = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
print("smtplib:", smtp.sendmail("a@example.test", ["b@example.test"], "hello\r\n"), smtp.quit())
END
cat >send.js <<'END'
require("nodemailer").createTransport({ host: "127.0.0.1", port: +process.argv[2] })
	.sendMail({ from: "a@example.test", to: "b@example.test", text: "hello" })
	.then(sent => console.log("nodemailer:", sent.response), err => console.log("nodemailer:", err.message));
END
go build -o send send.go || exit 2
{
	python3 serve.py ./send PORT
	python3 serve.py python3 send.py PORT
	python3 serve.py node send.js PORT
} >got
cat >want <<'END'
   ['net/smtp: short response: "220"'] exit status 0
   ["smtplib: {} (221, b'')"] exit status 0
   ['nodemailer: 250'] exit status 0
END
echo "Go 1.26.8 net/smtp, Python 3.11 smtplib, nodemailer 10.6.1: replies of a code alone. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
