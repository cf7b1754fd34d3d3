package main

import (
	"errors"
	"net"
	"os"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

// A reply of every kind, as it is sent and as it is shown.
const (
	reply     = "*4\r\n+OK\r\n:7\r\n$4\r\na\r\nb\r\n*2\r\n$-1\r\n$0\r\n\r\n"
	replyText = `[+OK :7 "a\r\nb" [null ""]]`
)

func newRespConn(conn net.Conn) respConn {
	return respConn{bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(maxValue))}
}

func TestReceiveUnderEveryCut(t *testing.T) {
	bufsocktest.Run(t, []byte(reply+reply), func(t *testing.T, conn net.Conn) {
		c := newRespConn(conn)
		for range 2 {
			v, err := c.receive()
			require.NoError(t, err)
			require.Equal(t, replyText, v.String())
		}
	})
}

// A timeout at any place, in the middle of an array and of a value in it, loses
// nothing: the next call begins at the same place.
func TestReceiveSurvivesTimeouts(t *testing.T) {
	bufsocktest.Interrupt(t, []byte(reply+reply), bufsocktest.Pause, func(t *testing.T, conn net.Conn) {
		c := newRespConn(conn)
		timeouts := 0
		for range 2 {
			v, err := c.receive()
			for errors.Is(err, os.ErrDeadlineExceeded) {
				timeouts++
				v, err = c.receive()
			}
			require.NoError(t, err)
			require.Equal(t, replyText, v.String())
		}
		if conn.(*bufsocktest.Player).Place() < len(reply+reply) {
			require.Equal(t, 1, timeouts)
		}
	})
}

// A connection that breaks or ends gives no reply that was not whole.
func TestReceiveFromBrokenConnections(t *testing.T) {
	for _, what := range []bufsocktest.Interruption{bufsocktest.Reset, bufsocktest.End} {
		bufsocktest.Interrupt(t, []byte(reply), what, func(t *testing.T, conn net.Conn) {
			c := newRespConn(conn)
			v, err := c.receive()
			if conn.(*bufsocktest.Player).Place() < len(reply) {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, replyText, v.String())
			_, err = c.receive()
			require.Error(t, err)
		})
	}
}
