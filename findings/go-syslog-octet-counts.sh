#!/usr/bin/env bash
#
# Guess: where messages have counts, a reader gets over one that it cannot parse more
# easily than where lines end them: the count says where the next one begins.
# Seen: with leodido/go-syslog it is the other way round. Its octetcounting parser
# ends at the first message of the old format, RFC 3164, and never sees the good one
# behind it; its nontransparent parser reports an error and goes on. WithBestEffort
# makes the first go on, too. Without it the last line of a stream is an error if no
# LF is behind it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >go.mod <<'END'
module finding

go 1.26

require github.com/leodido/go-syslog/v4 v4.6.0
END
cat >main.go <<'END'
package main

import (
	"fmt"
	"strings"

	"github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/nontransparent"
	"github.com/leodido/go-syslog/v4/octetcounting"
)

const (
	good = "<34>1 2026-11-28T16:00:00Z node.example.test app - - - hello"
	old  = "<34>Nov 28 16:00:00 node app: hello"
)

func show(name, stream string, parser func(...syslog.ParserOption) syslog.Parser, opts ...syslog.ParserOption) {
	var results []string
	listen := syslog.WithListener(func(r *syslog.Result) {
		if r.Error != nil {
			results = append(results, "error")
		} else {
			results = append(results, "message")
		}
	})
	parser(append(opts, listen)...).Parse(strings.NewReader(stream))
	fmt.Println(name, "->", strings.Join(results, ", "))
}

func main() {
	counted, lines := "", ""
	for _, m := range []string{good, old, good} {
		counted += fmt.Sprint(len(m), " ", m)
		lines += m + "\n"
	}
	show("counted: good, old, good", counted, octetcounting.NewParser)
	show("counted, best effort", counted, octetcounting.NewParser, syslog.WithBestEffort())
	show("lines: good, old, good", lines, nontransparent.NewParser)
	show("lines, no LF behind the last", strings.TrimSuffix(lines, "\n"), nontransparent.NewParser)
}
END
GOFLAGS=-mod=mod go build -o main main.go 2>log || { cat log; exit 2; }
./main >got
cat >want <<'END'
counted: good, old, good -> message, error
counted, best effort -> message, error, message
lines: good, old, good -> message, error, message
lines, no LF behind the last -> message, error, error
END
echo "leodido/go-syslog v4.6.0: a message that it cannot parse. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
