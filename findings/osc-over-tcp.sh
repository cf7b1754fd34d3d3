#!/usr/bin/env bash
#
# Guess: OSC over TCP is one format, so that one library reads what another sends.
# Seen: liblo puts a size of four bytes before each message, npm's osc puts each
# between two 0xc0 (SLIP). What liblo sends to osc arrives as nothing: no message, no
# error. The other way it works: liblo looks at the first bytes and takes both.
set -euo pipefail
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get -qq -o APT::Sandbox::User=root download liblo-tools=0.31-1 liblo7=0.31-1 || exit 2
for deb in *.deb; do dpkg -x "$deb" .; done
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu
npm install --silent --no-fund --no-audit --ignore-scripts osc@2.4.5 >/dev/null || exit 2

cat >both.js <<'END'
const net = require("net"), osc = require("osc"), { execFile, spawn } = require("child_process");
const sleep = ms => new Promise(done => setTimeout(done, ms));
const server = net.createServer(conn => {
	conn.on("data", bytes => console.log("received", JSON.stringify(bytes.toString("latin1"))));
	const port = new osc.TCPSocketPort({ socket: conn });
	port.on("message", message => console.log("osc has the message", JSON.stringify(message)));
	port.on("error", err => console.log("osc has an error", err.message));
	conn.on("end", () => console.log("end"));
});
server.listen(17772, "127.0.0.1", async () => {
	console.log("from liblo to osc");
	execFile("usr/bin/oscsend", ["osc.tcp://127.0.0.1:17772", "/lamp", "i", "7"]);
	await sleep(1000);
	console.log("from osc to osc");
	const port = new osc.TCPSocketPort({ address: "127.0.0.1", port: 17772 });
	port.on("ready", () => { port.send({ address: "/lamp", args: [7] }); port.socket.end(); });
	port.open();
	await sleep(1000);
	console.log("from osc to liblo");
	const dump = spawn("usr/bin/oscdump", ["-L", "osc.tcp://:17773"]);
	dump.stdout.on("data", text => console.log("oscdump says", String(text).trim().replace(/^\S+ /, "")));
	await sleep(500);
	const other = new osc.TCPSocketPort({ address: "127.0.0.1", port: 17773 });
	other.on("ready", () => other.send({ address: "/lamp", args: [{ type: "i", value: 7 }] }));
	other.open();
	await sleep(1000);
	dump.kill();
	process.exit();
});
END
timeout 20 node both.js >got
cat >want <<'END'
from liblo to osc
received "\u0000\u0000\u0000\u0010/lamp\u0000\u0000\u0000,i\u0000\u0000\u0000\u0000\u0000\u0007"
end
from osc to osc
received "À/lamp\u0000\u0000\u0000,f\u0000\u0000@à\u0000\u0000À"
osc has the message {"address":"/lamp","args":[7]}
end
from osc to liblo
oscdump says /lamp i 7
END
echo "liblo-tools 0.31-1 and npm osc 2.4.5 over TCP. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
