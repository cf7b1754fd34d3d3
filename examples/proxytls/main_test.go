package main

import (
	"io"
	"log/slog"
	"net"
	"os"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

const line, hello = "PROXY TCP4 198.51.100.7 192.0.2.2 4711 443\r\n", "the bytes of TLS"

// readAll reads the line, and then what the handshake would.
func readAll(conn net.Conn) (client, rest string, err error) {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(107))
	addr, err := readProxyLine(s)
	if err != nil {
		return "", "", err
	}
	b, err := io.ReadAll(s)
	return addr.String(), string(b), err
}

// However the line comes, the bytes behind it are there for TLS.
func TestProxyLineUnderEveryCut(t *testing.T) {
	bufsocktest.Run(t, []byte(line+hello), func(t *testing.T, conn net.Conn) {
		client, rest, err := readAll(conn)
		require.NoError(t, err)
		require.Equal(t, "198.51.100.7:4711", client)
		require.Equal(t, hello, rest)
	})
}

// A line that breaks off is none, though it may look like one.
func TestProxyLineInterrupted(t *testing.T) {
	for _, what := range []bufsocktest.Interruption{bufsocktest.Pause, bufsocktest.Reset, bufsocktest.End} {
		bufsocktest.Interrupt(t, []byte(line), what, func(t *testing.T, conn net.Conn) {
			client, _, err := readAll(conn)
			if conn.(*bufsocktest.Player).Place() < len(line) {
				require.Error(t, err)
			} else {
				require.Equal(t, "198.51.100.7:4711", client)
			}
		})
	}
}
