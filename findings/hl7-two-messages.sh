#!/usr/bin/env bash
#
# Guess: an HL7 server that speaks MLLP (0x0b, message, 0x1c 0x0d) takes the messages
# of a connection one by one, however they come: the marks are there for that.
# Seen, with three servers from npm: of two messages in one segment mllp-node and
# simple-hl7 make one, and acknowledge it once; node-hl7-server takes two. But when a
# client keeps its connection and sends the second message once the first has been
# acknowledged, node-hl7-server hands the first out again, and acknowledges it again.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-fund --no-audit --ignore-scripts node-hl7-server@2.5.0 simple-hl7@3.3.0 mllp-node@2.0.0 >/dev/null || exit 2

cat >serve.js <<'END'
const net = require("net");
const sleep = ms => new Promise(done => setTimeout(done, ms));
const frame = id => `\x0bMSH|^~\\&|A|B|C|D|20261128160000||ADT^A01^ADT_A01|${id}|T|2.7\rEVN||20261128160000\r\x1c\r`;
let taken = [];
const ids = text => text.match(/\|M\d\|/g).join("").replaceAll("|", "");

const servers = {
	"mllp-node"(port) {
		const { MLLPServer } = require("mllp-node");
		new MLLPServer("127.0.0.1", port, () => {}).on("hl7", message => taken.push(ids(message)));
	},
	"simple-hl7"(port) {
		const app = require("simple-hl7").tcp();
		app.use((req, res) => { taken.push(ids(req.raw)); res.end(); });
		app.use((err, req, res, next) => { taken.push("error"); });
		app.start(port);
	},
	"node-hl7-server"(port) {
		const { Server } = require("node-hl7-server");
		new Server({ bindAddress: "127.0.0.1" }).createInbound({ port }, async (req, res) => {
			taken.push(req.getMessage().get("MSH.10").toString());
			await res.sendResponse("AA");
		});
	},
};

async function send(port, name, segments) {
	taken = [];
	let answers = "";
	const conn = net.connect(port, "127.0.0.1").setNoDelay(true);
	conn.on("data", bytes => { answers += bytes; });
	for (const segment of segments) {
		conn.write(segment);
		await sleep(500);
	}
	conn.destroy();
	console.log("  ", name, "-> taken:", taken.join(", "), "- acknowledged:", (answers.match(/\x0b/g) || []).length);
}

(async () => {
	let port = 17550;
	for (const [name, start] of Object.entries(servers)) {
		console.log(name);
		start(++port);
		await sleep(500);
		await send(port, "one", [frame("M1")]);
		await send(port, "two in one segment", [frame("M1") + frame("M2")]);
		await send(port, "two, one after the other", [frame("M1"), frame("M2")]);
	}
	process.exit();
})();
END
timeout 30 node serve.js >got
cat >want <<'END'
mllp-node
   one -> taken: M1 - acknowledged: 1
   two in one segment -> taken: M1M2 - acknowledged: 1
   two, one after the other -> taken: M1, M2 - acknowledged: 2
simple-hl7
   one -> taken: M1 - acknowledged: 1
   two in one segment -> taken: M1M2 - acknowledged: 1
   two, one after the other -> taken: M1, M2 - acknowledged: 2
node-hl7-server
   one -> taken: M1 - acknowledged: 1
   two in one segment -> taken: M1, M2 - acknowledged: 2
   two, one after the other -> taken: M1, M1, M2 - acknowledged: 3
END
echo "mllp-node 2.0.0, simple-hl7 3.3.0, node-hl7-server 2.5.0. Seen:"
cat got
diff want got || { echo "this has changed"; exit 1; }
