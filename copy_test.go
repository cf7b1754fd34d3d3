package bufsock_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// A copy is one that runs between two sockets, in one of two directions and by
// one of two methods.
type copying struct {
	name string
	call func(a, b *bufsock.BufferedSocket) (int64, error)
}

var copyings = []copying{
	{"a.WriteTo(b)", func(a, b *bufsock.BufferedSocket) (int64, error) { return a.WriteTo(b) }},
	{"b.ReadFrom(a)", func(a, b *bufsock.BufferedSocket) (int64, error) { return b.ReadFrom(a) }},
	{"b.WriteTo(a)", func(a, b *bufsock.BufferedSocket) (int64, error) { return b.WriteTo(a) }},
	{"a.ReadFrom(b)", func(a, b *bufsock.BufferedSocket) (int64, error) { return a.ReadFrom(b) }},
	{"a.WriteTo(a)", func(a, _ *bufsock.BufferedSocket) (int64, error) { return a.WriteTo(a) }},
	{"a.ReadFrom(a)", func(a, _ *bufsock.BufferedSocket) (int64, error) { return a.ReadFrom(a) }},
	{"b.WriteTo(b)", func(_, b *bufsock.BufferedSocket) (int64, error) { return b.WriteTo(b) }},
	{"b.ReadFrom(b)", func(_, b *bufsock.BufferedSocket) (int64, error) { return b.ReadFrom(b) }},
}

// Copies between the same sockets never wait for each other for ever, in
// whatever directions and by whichever methods.
func TestCopiesBetweenTheSameSocketsEnd(t *testing.T) {
	for _, transport := range []transport{{"TCP", tcpPair}, {"Unix", unixPair}, wrappedTransport, {"Pipe", pipePair}} {
		for i, first := range copyings {
			for _, second := range copyings[i:] {
				t.Run(transport.name+", "+first.name+" and "+second.name, func(t *testing.T) {
					local, remote := transport.pair(t)
					other, far := transport.pair(t)
					a, b := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(other)
					for _, peer := range []net.Conn{remote, far} {
						go io.Copy(io.Discard, peer)
						go peer.Write([]byte("hello"))
					}
					done := make(chan struct{}, 3)
					for _, c := range []copying{first, second, first} {
						go func() { c.call(a, b); done <- struct{}{} }()
					}
					remote.SetWriteDeadline(time.Now().Add(time.Second))
					remote.Close()
					far.Close()
					for range 3 {
						select {
						case <-done:
						case <-time.After(time.Minute):
							require.Fail(t, "the copies wait for each other")
						}
					}
				})
			}
		}
	}
}

// A socket echoes by either method.
func TestASocketCopiesToItself(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport) {
		for _, c := range copyings[4:6] {
			t.Run(transport.name+", "+c.name, func(t *testing.T) {
				local, remote := transport.pair(t)
				s := bufsock.NewBufferedSocket(local)
				done := make(chan error, 1)
				go func() { _, err := c.call(s, s); done <- err }()
				for range 3 {
					_, err := remote.Write([]byte("echo"))
					require.NoError(t, err)
					got := make([]byte, 4)
					_, err = io.ReadFull(remote, got)
					require.NoError(t, err)
					require.Equal(t, "echo", string(got))
				}
				require.NoError(t, s.Close())
				assertClosed(t, <-done)
			})
		}
	}
}

// A target whose write deadline has passed takes nothing, and nothing is lost.
func TestACopyPastAWriteDeadlineLosesNothing(t *testing.T) {
	type pair = func(testing.TB) (net.Conn, net.Conn)
	kinds := map[string]struct{ from, to pair }{
		"TCP to TCP": {tcpPair, tcpPair}, "TCP to Unix": {tcpPair, unixPair}, "Unix to TCP": {unixPair, tcpPair},
		"wrapped to TCP": {wrappedPair, tcpPair}, "TCP to wrapped": {tcpPair, wrappedPair}, "Pipe to TCP": {pipePair, tcpPair},
	}
	past := time.Unix(1, 0)
	copies := map[string]func(s *bufsock.BufferedSocket, to net.Conn) error{
		"WriteTo a connection": func(s *bufsock.BufferedSocket, to net.Conn) error {
			require.NoError(t, to.SetWriteDeadline(past))
			_, err := s.WriteTo(to)
			return err
		},
		"WriteTo a socket": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := s.WriteTo(target)
			return err
		},
		"ReadFrom of a socket": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := target.ReadFrom(s)
			return err
		},
		"io.Copy": func(s *bufsock.BufferedSocket, to net.Conn) error {
			target := bufsock.NewBufferedSocket(to)
			require.NoError(t, target.SetWriteDeadline(past))
			_, err := io.Copy(target, s)
			return err
		},
	}
	for kind, tt := range kinds {
		for how, copied := range copies {
			t.Run(kind+", "+how, func(t *testing.T) {
				local, remote := tt.from(t)
				to, _ := tt.to(t)
				s := bufsock.NewBufferedSocket(local)
				go func() { remote.Write([]byte("precious")) }()
				err := copied(s, to)
				e, ok := errors.AsType[net.Error](err)
				require.True(t, ok && e.Timeout(), "%v", err)
				msg, err := s.RecvSize(8, bufsock.WithTimeout(time.Minute))
				require.NoError(t, err)
				require.Equal(t, "precious", string(msg))
			})
		}
	}
}

// A source that is a bare connection keeps what a socket cannot send.
func TestReadFromPastAWriteDeadlineTakesNothing(t *testing.T) {
	for _, transport := range append(transports, wrappedTransport) {
		t.Run(transport.name, func(t *testing.T) {
			from, far := tcpPair(t)
			local, _ := transport.pair(t)
			s := bufsock.NewBufferedSocket(local)
			require.NoError(t, s.SetWriteDeadline(time.Unix(1, 0)))
			_, err := far.Write([]byte("precious"))
			require.NoError(t, err)
			require.NoError(t, far.Close())
			_, err = s.ReadFrom(from)
			e, ok := errors.AsType[net.Error](err)
			require.True(t, ok && e.Timeout(), "%v", err)
			if transport.name != "TCP" && transport.name != "Unix" {
				return // what was taken from r and not sent is not kept
			}
			b, err := io.ReadAll(from)
			require.NoError(t, err)
			require.Equal(t, "precious", string(b))
		})
	}
}

// A copy goes where its target is when it sends, also if that is upgraded at the
// same moment.
func TestUpgradesOfATargetLoseNothing(t *testing.T) {
	for i := range 100 {
		local, remote := tcpPair(t)
		to, far := tcpPair(t)
		s, target := bufsock.NewBufferedSocket(local), bufsock.NewBufferedSocket(to, bufsock.WithTimeout(time.Minute))
		received := make(chan []byte)
		go func() { b, _ := io.ReadAll(far); received <- b }()
		want := bytes.Repeat([]byte("0123456789"), 1000)
		go func() { remote.Write(want); remote.Close() }()
		upgraded := make(chan error)
		go func() {
			var err error
			for range i % 10 {
				err = errors.Join(err, target.Upgrade(rewrap))
			}
			upgraded <- err
		}()
		n, err := copyings[i%2].call(s, target)
		require.NoError(t, err)
		require.EqualValues(t, len(want), n)
		require.NoError(t, <-upgraded)
		require.NoError(t, target.Close())
		require.True(t, bytes.Equal(want, <-received))
	}
}

// Each side of a copy notes its own errors. One of the target ends its sending
// side and leaves the source as it is, and the reverse.
func TestErrorsOfACopyAreThoseOfTheirSide(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range copyings[:2] {
		t.Run(c.name+", the target fails", func(t *testing.T) {
			a := bufsock.NewBufferedSocket(segments("precious"))
			b := bufsock.NewBufferedSocket(&wire{limits: []int{3}, err: boom, reads: []read{{"whole", nil}}})
			n, err := c.call(a, b)
			require.Equal(t, boom, err)
			require.EqualValues(t, 3, n)
			require.Equal(t, "cious", string(a.RecvBuffer()), "what was not taken")
			require.Zero(t, b.Unsent())
			_, err = b.Send([]byte("x"))
			require.ErrorIs(t, err, bufsock.ErrBroken)
			require.ErrorIs(t, err, boom)
			msg, err := b.RecvClose()
			require.NoError(t, err, "nothing is known of the other direction")
			require.Equal(t, "whole", string(msg))
			msg, err = a.RecvClose()
			require.NoError(t, err, "the source is well")
			require.Equal(t, "cious", string(msg))
		})
		t.Run(c.name+", the source fails", func(t *testing.T) {
			w := &wire{}
			a := bufsock.NewBufferedSocket(&wire{reads: []read{{"half", nil}, {"", boom}}})
			b := bufsock.NewBufferedSocket(w)
			n, err := c.call(a, b)
			require.Equal(t, boom, err)
			require.EqualValues(t, 4, n)
			_, err = c.call(a, b)
			require.Equal(t, boom, err, "again")
			_, err = b.Send([]byte("x"))
			require.NoError(t, err, "the target is well")
			require.Equal(t, []string{"half", "x"}, w.writes)
			_, err = b.RecvClose()
			require.NoError(t, err)
		})
		t.Run(c.name+", nothing can be sent any more", func(t *testing.T) {
			a := bufsock.NewBufferedSocket(segments("precious"))
			b := bufsock.NewBufferedSocket(&wire{limits: []int{0}, err: boom})
			_, err := b.Write([]byte("x"))
			require.Equal(t, boom, err)
			n, err := c.call(a, b)
			require.ErrorIs(t, err, bufsock.ErrBroken)
			require.Zero(t, n)
			msg, err := a.RecvClose()
			require.NoError(t, err)
			require.Equal(t, "precious", string(msg), "nothing is lost")
		})
	}
	t.Run("ReadFrom of a reader that fails", func(t *testing.T) {
		s := bufsock.NewBufferedSocket(&wire{})
		_, err := s.ReadFrom(io.MultiReader(strings.NewReader("half"), readerFunc(func([]byte) (int, error) { return 0, boom })))
		require.Equal(t, boom, err)
		_, err = s.Send([]byte("x"))
		require.NoError(t, err, "the error is not that of the connection")
		_, err = s.RecvClose()
		require.NoError(t, err)
	})
}
