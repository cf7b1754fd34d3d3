package connections

// Limits that several kinds share.
var (
	ofWrapped = []limit{noCloseWrite, noCloseRead, forgetsBreak} // what only wraps a TCP connection
	ofTLS     = []limit{noCloseRead, writeTimeoutEnds, forgetsBreak}
)

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
		cannot:     []limit{ignoresDeadlines, closeLeavesReads, closeLeavesWrites, forgetsBreak},
		notNettest: []string{"FutureTimeout", "PresentTimeout"},
	},
	{
		name: "Unix after File().Fd()", open: afterFd(openUnix),
		cannot:     []limit{ignoresDeadlines, closeLeavesReads, closeLeavesWrites},
		notNettest: []string{"FutureTimeout", "PresentTimeout"},
	},
	{name: "net.Pipe", open: openPipe, cannot: []limit{noCloseWrite, noCloseRead, unbreakable}},
	{name: "netutil.LimitListener", module: "golang.org/x/net", open: openLimitListener, cannot: ofWrapped},
	{name: "SOCKS5", module: "golang.org/x/net", open: openSOCKS, cannot: ofWrapped},
	{name: "cmux", module: "github.com/soheilhy/cmux", open: openCmux, cannot: ofWrapped},
	{name: "go-proxyproto", module: "github.com/pires/go-proxyproto", open: openPROXY, cannot: ofWrapped},
	{name: "gVisor's gonet", module: "gvisor.dev/gvisor", open: openGonet, cannot: []limit{forgetsBreak}},
	{
		name: "pty", module: "github.com/creack/pty", open: openPty,
		cannot:     []limit{noCloseWrite, noCloseRead, otherEnd, oddTimeout, unbreakable},
		notNettest: []string{"BasicIO", "PingPong", "RacyRead", "RacyWrite", "PresentTimeout", "FutureTimeout"},
	},
	{
		name: "serial port", module: "go.bug.st/serial", open: openSerial,
		cannot: []limit{noCloseWrite, noCloseRead, noWriteDeadlines, closeLeavesWrites, otherEnd, unbreakable},
		notNettest: []string{
			"BasicIO", "PingPong", "WriteTimeout", "PastTimeout", "PresentTimeout", "FutureTimeout", "ConcurrentMethods",
		},
	},
	{
		name: "tls.Conn", open: openTLS, cannot: ofTLS, tls: true,
		notNettest: []string{"FutureTimeout", "ConcurrentMethods"},
	},
	{
		name: "tls.Conn over LimitListener", open: openTLSOverLimitListener, cannot: ofTLS, tls: true,
		notNettest: []string{"FutureTimeout", "ConcurrentMethods"},
	},
	{
		name: "hashicorp/yamux", module: "github.com/hashicorp/yamux", open: openYamux,
		cannot: []limit{noCloseWrite, noCloseRead, closeLeavesReads, finalTimeouts, breakIsEnd},
	},
	{name: "libp2p/go-yamux", module: "github.com/libp2p/go-yamux/v5", open: openLibp2pYamux},
	{
		name: "quic-go stream", module: "github.com/quic-go/quic-go", open: openQUIC,
		cannot: []limit{noCloseWrite, noCloseRead, closeLeavesReads, closeLeavesWrites},
	},
	{
		name: "smux", module: "github.com/xtaci/smux", open: openSmux,
		cannot: []limit{noCloseRead, writeNotWoken, miscounts, closeLeavesWrites, forgetsBreak},
	},
	{
		name: "grpc's bufconn", module: "google.golang.org/grpc", open: openBufconn,
		cannot: []limit{noCloseWrite, noCloseRead, miscounts, finalTimeouts, unbreakable},
	},
	{
		name: "x/net/websocket", module: "golang.org/x/net", open: openWebsocket,
		cannot:     []limit{noCloseWrite, noCloseRead, writeTimeoutEnds, fullCount, closeLeavesWrites, forgetsBreak},
		notNettest: []string{"FutureTimeout", "ConcurrentMethods"},
	},
	{
		name: "ssh channel", module: "golang.org/x/crypto", open: openSSH,
		cannot: []limit{noCloseRead, noReadDeadlines, noWriteDeadlines, breakIsEnd},
		notNettest: []string{
			"BasicIO", "PingPong", "ReadTimeout", "WriteTimeout", "PastTimeout", "PresentTimeout", "FutureTimeout",
			"ConcurrentMethods",
		},
	},
	{
		name: "fasthttputil.PipeConns", module: "github.com/valyala/fasthttp", open: openPipeConns,
		cannot: []limit{noCloseWrite, noCloseRead, oddTimeout, unbreakable},
	},
	{
		name: "coder/websocket NetConn", module: "github.com/coder/websocket", open: openCoderWebsocket,
		cannot: []limit{noCloseWrite, noCloseRead, readTimeoutEnds, writeTimeoutEnds, otherTimeout},
		notNettest: []string{
			"BasicIO", "PingPong", "RacyRead", "RacyWrite", "PresentTimeout", "FutureTimeout", "ConcurrentMethods",
		},
	},
	{
		name: "netpoll", module: "github.com/cloudwego/netpoll", open: openNetpoll,
		cannot:     []limit{noCloseWrite, noCloseRead, notWoken, writeNotWoken, fullCount, otherEnd, finalTimeouts},
		notNettest: []string{"PingPong", "RacyWrite"},
	},
	{
		name: "spdystream", module: "github.com/moby/spdystream", open: openSpdystream,
		cannot: []limit{
			noCloseWrite, noCloseRead, deadlineEnds, readTimeoutEnds, miscounts, otherTimeout,
			closeLeavesReads, closeLeavesWrites, breakIsEnd,
		},
		notNettest: []string{"RacyRead", "PresentTimeout", "FutureTimeout", "ConcurrentMethods"},
	},
}
