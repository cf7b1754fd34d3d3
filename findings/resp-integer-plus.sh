#!/usr/bin/env bash
#
# Guess: the integer reply ":+5" of RESP, whose description allows the sign, is 5 to
# every Redis client; and a verbatim string of RESP3 comes without its "txt:" from
# every client, or with it.
# Seen: go-redis, node-redis and ioredis say 5, redigo and rueidis refuse the reply.
# "=5\r\ntxt:a\r\n" is "a" to go-redis, node-redis and ioredis, and "txt:a" to rueidis;
# redigo speaks RESP2 alone.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-fund --no-audit redis@6.3.1 ioredis@6.0.0 >/dev/null || exit 2

# A server that answers ASK plus and ASK verbatim, and the words of a handshake.
cat >serve.py <<'END'
import re, socketserver
answers = {b"plus": b":+5\r\n", b"verbatim": b"=5\r\ntxt:a\r\n"}
hello = b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n"

class Client(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            words = []
            for _ in range(int(line[1:])):
                words.append(self.rfile.read(int(self.rfile.readline()[1:]) + 2)[:-2])
            name = words[0].lower()
            self.wfile.write(answers[words[1]] if name == b"ask" else hello if name == b"hello" else
                             b"$19\r\nredis_version:7.2.0\r\n" if name == b"info" else b"+OK\r\n")

socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("127.0.0.1", 17379), Client).serve_forever()
END
python3 serve.py 2>log &

cat >ask.js <<'END'
const redis = require("redis"), Redis = require("ioredis");
(async () => {
	for (const ask of ["plus", "verbatim"]) {
		const client = redis.createClient({ url: "redis://127.0.0.1:17379", RESP: 3 });
		await client.connect();
		console.log("node-redis", ask, await client.sendCommand(["ASK", ask]).catch(err => err.message));
		client.destroy();
		const other = new Redis(17379, "127.0.0.1");
		console.log("ioredis", ask, await other.call("ASK", ask).catch(err => err.message));
		other.disconnect();
	}
})();
END
cat >go.mod <<'END'
module finding

go 1.26

require (
	github.com/gomodule/redigo v1.9.3
	github.com/redis/go-redis/v9 v9.23.0
	github.com/redis/rueidis v1.0.79
)
END
cat >ask.go <<'END'
package main

import (
	"context"
	"fmt"

	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

const address = "127.0.0.1:17379"

func show(who, ask string, v any, err error) {
	if err != nil {
		v = err
	}
	fmt.Println(who, ask, v)
}

func main() {
	ctx := context.Background()
	for _, ask := range []string{"plus", "verbatim"} {
		v, err := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1}).Do(ctx, "ASK", ask).Result()
		show("go-redis", ask, v, err)

		c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true,
			DisableCache: true, DisableRetry: true})
		if err != nil {
			panic(err)
		}
		reply := c.Do(ctx, c.B().Arbitrary("ASK", ask).Build())
		v, err = reply.ToAny()
		show("rueidis", ask, v, err)
	}
	c, err := redigo.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	v, err := c.Do("ASK", "plus")
	show("redigo", "plus", v, err)
}
END
GOFLAGS=-mod=mod go build -o ask ask.go 2>log || { cat log; exit 2; }
{
	timeout 20 node ask.js
	timeout 20 ./ask
} >got
cat >want <<'END'
node-redis plus 5
ioredis plus 5
node-redis verbatim a
ioredis verbatim a
go-redis plus 5
rueidis plus received unexpected number byte: 43
go-redis verbatim a
rueidis verbatim txt:a
redigo plus redigo: illegal bytes in length (possible server error or unsupported concurrent read by application)
END
echo "node-redis 6.3.1, ioredis 6.0.0, go-redis 9.23.0, rueidis 1.0.79, redigo 1.9.3. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
