package connections

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp/fasthttputil"
	"google.golang.org/grpc/test/bufconn"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/pipe"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

func openPipe(t testing.TB) *link {
	a, b := net.Pipe()
	closeLater(t, a, b)
	return &link{a: a, b: b}
}

func openBufconn(t testing.TB) *link {
	l := bufconn.Listen(4 << 10)
	closeLater(t, l)
	accepted := accepting(t, l.Accept)
	b, err := l.Dial()
	require.NoError(t, err)
	a := accepted()
	closeLater(t, a, b)
	return &link{a: a, b: b}
}

func openPipeConns(t testing.TB) *link {
	pipes := fasthttputil.NewPipeConns()
	closeLater(t, pipes)
	return &link{a: pipes.Conn1(), b: pipes.Conn2()}
}

// openGonet connects two TCP stacks of gVisor by a link in memory.
func openGonet(t testing.TB) *link {
	here, there := pipe.New("\x02\x00\x00\x00\x00\x01", "\x02\x00\x00\x00\x00\x02", 1500)
	client := newStack(t, here, tcpip.AddrFrom4([4]byte{192, 0, 2, 1}))
	target := tcpip.AddrFrom4([4]byte{192, 0, 2, 2})
	server := newStack(t, there, target)

	endpoints := make(chan tcpip.Endpoint, 1)
	conns := make(chan net.Conn, 1)
	forwarder := tcp.NewForwarder(server, 0, 1, func(r *tcp.ForwarderRequest) {
		var queue waiter.Queue
		endpoint, err := r.CreateEndpoint(&queue)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		r.Complete(false)
		endpoints <- endpoint
		conns <- gonet.NewTCPConn(&queue, endpoint)
	})
	server.SetTransportProtocolHandler(tcp.ProtocolNumber, forwarder.HandlePacket)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := gonet.DialContextTCP(ctx, client, tcpip.FullAddress{Addr: target, Port: 80}, ipv4.ProtocolNumber)
	require.NoError(t, err)
	b, endpoint := <-conns, <-endpoints
	closeLater(t, a, b)
	return &link{a, b, endpoint.Abort}
}

func newStack(t testing.TB, end stack.LinkEndpoint, address tcpip.Address) *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	t.Cleanup(s.Close)
	check := func(err tcpip.Error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.CreateNIC(1, end))
	check(s.AddProtocolAddress(1, tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: address.WithPrefix(),
	}, stack.AddressProperties{}))
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
	return s
}
