package connections

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	hashicorp "github.com/hashicorp/yamux"
	libp2p "github.com/libp2p/go-yamux/v5"
	"github.com/moby/spdystream"
	"github.com/quic-go/quic-go"
	"github.com/stretchr/testify/require"
	"github.com/xtaci/smux"
	"golang.org/x/crypto/ssh"
)

// accepting runs accept in the background and returns a function that waits for
// its result.
func accepting[T any](t testing.TB, accept func() (T, error)) func() T {
	accepted := make(chan T, 1)
	go func() {
		defer close(accepted)
		v, err := accept()
		if err != nil {
			t.Error(err)
			return
		}
		accepted <- v
	}()
	return func() T { return <-accepted }
}

func openYamux(t testing.TB) *link {
	a, b := tcpPair(t)
	config := hashicorp.DefaultConfig()
	config.LogOutput = nil
	config.Logger = log.New(io.Discard, "", 0)
	server, err := hashicorp.Server(b, config)
	require.NoError(t, err)
	client, err := hashicorp.Client(a, config)
	require.NoError(t, err)
	closeLater(t, client, server)
	accepted := accepting(t, server.Accept)
	stream, err := client.Open()
	require.NoError(t, err)
	return &link{stream, accepted(), resetTCP(b)}
}

func openLibp2pYamux(t testing.TB) *link {
	a, b := tcpPair(t)
	config := libp2p.DefaultConfig()
	config.LogOutput = io.Discard
	server, err := libp2p.Server(b, config, nil)
	require.NoError(t, err)
	client, err := libp2p.Client(a, config, nil)
	require.NoError(t, err)
	closeLater(t, client, server)
	accepted := accepting(t, server.Accept)
	stream, err := client.Open(context.Background())
	require.NoError(t, err)
	return &link{stream, accepted(), resetTCP(b)}
}

func openSmux(t testing.TB) *link {
	a, b := tcpPair(t)
	config := smux.DefaultConfig()
	config.MaxReceiveBuffer = 64 << 10
	config.MaxStreamBuffer = 64 << 10
	server, err := smux.Server(b, config)
	require.NoError(t, err)
	client, err := smux.Client(a, config)
	require.NoError(t, err)
	closeLater(t, client, server)
	accepted := accepting(t, server.AcceptStream)
	stream, err := client.OpenStream()
	require.NoError(t, err)
	return &link{stream, accepted(), resetTCP(b)}
}

// A quicConn is a stream of QUIC as a net.Conn.
type quicConn struct {
	*quic.Stream
	conn *quic.Conn
}

func (c quicConn) LocalAddr() net.Addr  { return c.conn.LocalAddr() }
func (c quicConn) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// openQUIC breaks off by a reset of the stream.
func openQUIC(t testing.TB) *link {
	serverConfig, clientConfig := tlsConfigs()
	l, err := quic.ListenAddr("127.0.0.1:0", serverConfig, nil)
	require.NoError(t, err)
	closeLater(t, l)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	accepted := accepting(t, func() (quicConn, error) {
		conn, err := l.Accept(ctx)
		if err != nil {
			return quicConn{}, err
		}
		stream, err := conn.AcceptStream(ctx)
		return quicConn{stream, conn}, err
	})
	conn, err := quic.DialAddr(ctx, l.Addr().String(), clientConfig, nil)
	require.NoError(t, err)
	stream, err := conn.OpenStreamSync(ctx)
	require.NoError(t, err)
	_, err = stream.Write([]byte{0}) // or the peer sees no stream
	require.NoError(t, err)
	a, b := quicConn{stream, conn}, accepted()
	requireRead(t, b, "\x00")
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return &link{a, b, func() {
		b.CancelWrite(1)
		b.CancelRead(1)
	}}
}

func openSpdystream(t testing.TB) *link {
	a, b := tcpPair(t)
	server, err := spdystream.NewConnection(b, true)
	require.NoError(t, err)
	client, err := spdystream.NewConnection(a, false)
	require.NoError(t, err)
	streams := make(chan *spdystream.Stream, 1)
	go server.Serve(func(stream *spdystream.Stream) {
		_ = stream.SendReply(http.Header{}, false)
		streams <- stream
	})
	go client.Serve(spdystream.NoOpStreamHandler)
	stream, err := client.CreateStream(http.Header{}, nil, false)
	require.NoError(t, err)
	require.NoError(t, stream.WaitTimeout(patience))
	return &link{stream, <-streams, resetTCP(b)}
}

// A channelConn is a channel of an SSH server as a net.Conn.
type channelConn struct {
	ssh.Channel
	net.Conn // the one below: for its addresses and deadlines
}

func (c channelConn) Read(p []byte) (int, error)  { return c.Channel.Read(p) }
func (c channelConn) Write(p []byte) (int, error) { return c.Channel.Write(p) }
func (c channelConn) Close() error                { return c.Channel.Close() }

// openSSH opens a direct-tcpip channel, which ssh.Client.Dial returns.
func openSSH(t testing.TB) *link {
	a, b := tcpPair(t)
	serverConfig, _ := tlsConfigs()
	signer, err := ssh.NewSignerFromKey(serverConfig.Certificates[0].PrivateKey)
	require.NoError(t, err)
	config := &ssh.ServerConfig{NoClientAuth: true}
	config.AddHostKey(signer)
	accepted := accepting(t, func() (ssh.Channel, error) {
		_, channels, requests, err := ssh.NewServerConn(b, config)
		if err != nil {
			return nil, err
		}
		go ssh.DiscardRequests(requests)
		channel, requests, err := (<-channels).Accept()
		go ssh.DiscardRequests(requests)
		return channel, err
	})
	conn, channels, requests, err := ssh.NewClientConn(a, "bufsock.test", &ssh.ClientConfig{
		HostKeyCallback: ssh.FixedHostKey(signer.PublicKey()),
	})
	require.NoError(t, err)
	client := ssh.NewClient(conn, channels, requests)
	closeLater(t, client)
	channel, err := client.Dial("tcp", "192.0.2.1:80")
	require.NoError(t, err)
	return &link{channel, channelConn{accepted(), b}, resetTCP(b)}
}
