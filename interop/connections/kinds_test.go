package connections

// tcpLimits are those of what only wraps a TCP connection.
var wrapped = []limit{noCloseWrite, noCloseRead, forgetsBreak}

// kinds are the rows of the table in README.md.
var kinds = []*kind{
	{name: "TCP", open: openTCP, cannot: []limit{forgetsBreak}},
	{name: "MPTCP", open: openMPTCP, cannot: []limit{forgetsBreak}},
	{name: "Unix", open: openUnix},
	{name: "Unix, abstract", open: openAbstractUnix},
	{name: "Unix, socketpair", open: openSocketPair},
	{name: "TCP after File", open: afterFile(openTCP), cannot: []limit{forgetsBreak}},
	{name: "Unix after File", open: afterFile(openUnix)},
	{
		name: "TCP after File().Fd()", open: afterFd(openTCP),
		cannot: []limit{ignoresDeadlines, closeLeavesReads, closeLeavesWrites, forgetsBreak},
	},
	{
		name: "Unix after File().Fd()", open: afterFd(openUnix),
		cannot: []limit{ignoresDeadlines, closeLeavesReads, closeLeavesWrites},
	},
	{name: "net.Pipe", open: openPipe, cannot: []limit{noCloseWrite, noCloseRead, unbreakable}},
	{name: "netutil.LimitListener", module: "golang.org/x/net", open: openLimitListener, cannot: wrapped},
	{name: "SOCKS5", module: "golang.org/x/net", open: openSOCKS, cannot: wrapped},
	{name: "cmux", module: "github.com/soheilhy/cmux", open: openCmux, cannot: wrapped},
	{name: "go-proxyproto", module: "github.com/pires/go-proxyproto", open: openPROXY, cannot: wrapped},
	{name: "gonet", module: "gvisor.dev/gvisor", open: openGonet, cannot: []limit{forgetsBreak}},
	{
		name: "pty", module: "github.com/creack/pty", open: openPty,
		cannot: []limit{noCloseWrite, noCloseRead, otherEnd, oddTimeout, unbreakable},
	},
	{
		name: "serial port", module: "go.bug.st/serial", open: openSerial,
		cannot: []limit{noCloseWrite, noCloseRead, noWriteDeadlines, closeLeavesWrites, otherEnd, unbreakable},
	},
	{name: "tls.Conn", tls: true, open: openTLS, cannot: []limit{noCloseRead, writeTimeoutEnds, forgetsBreak}},
	{
		name: "tls.Conn over LimitListener", tls: true, module: "golang.org/x/net", open: openTLSOverLimitListener,
		cannot: []limit{noCloseRead, writeTimeoutEnds, forgetsBreak},
	},
	{name: "hashicorp/yamux", module: "github.com/hashicorp/yamux", open: openYamux, cannot: []limit{noCloseWrite, noCloseRead, closeLeavesReads, breakIsEnd}},
	{name: "libp2p/go-yamux", module: "github.com/libp2p/go-yamux/v5", open: openLibp2pYamux},
	{name: "quic-go", module: "github.com/quic-go/quic-go", open: openQUIC, cannot: []limit{noCloseWrite, noCloseRead, closeLeavesReads, closeLeavesWrites}},
	{name: "smux", module: "github.com/xtaci/smux", open: openSmux, cannot: []limit{noCloseRead, miscounts, closeLeavesWrites, forgetsBreak}},
	{name: "bufconn", module: "google.golang.org/grpc", open: openBufconn, cannot: []limit{noCloseWrite, noCloseRead, miscounts, unbreakable}},
	{name: "x/net/websocket", module: "golang.org/x/net", open: openWebsocket, cannot: []limit{noCloseWrite, noCloseRead, writeTimeoutEnds, closeLeavesWrites, forgetsBreak}},
	{name: "ssh channel", module: "golang.org/x/crypto", open: openSSH, cannot: []limit{noCloseRead, noReadDeadlines, noWriteDeadlines, breakIsEnd}},
	{name: "fasthttputil.PipeConns", module: "github.com/valyala/fasthttp", open: openPipeConns, cannot: []limit{noCloseWrite, noCloseRead, oddTimeout, unbreakable}},
	{name: "coder/websocket", module: "github.com/coder/websocket", open: openCoderWebsocket, cannot: []limit{noCloseWrite, noCloseRead, readTimeoutEnds, writeTimeoutEnds, oddTimeout}},
	{name: "netpoll", module: "github.com/cloudwego/netpoll", open: openNetpoll, cannot: []limit{noCloseWrite, noCloseRead, notWoken, otherEnd}},
	{name: "spdystream", module: "github.com/moby/spdystream", open: openSpdystream, cannot: []limit{noCloseWrite, noCloseRead, deadlineEnds, readTimeoutEnds, closeLeavesReads, closeLeavesWrites, oddTimeout, breakIsEnd}},
}
