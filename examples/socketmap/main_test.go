package main

import (
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

// dialogue are requests of a client, one after the other, and the replies.
var dialogue = []struct{ request, reply string }{
	{"virtual alice@example.test", "OK alice"},
	{"virtual", "PERM expected a name, a space and a key"},
	{"virtual bob@example.test", "NOTFOUND "},
}

// requests returns the requests as they are sent.
func requests() (stream []byte) {
	for _, d := range dialogue {
		stream = bufsock.AppendNetstring(stream, []byte(d.request))
	}
	return stream
}

// replies returns the replies to the requests that are whole within so many
// bytes, as they are sent.
func replies(size int) string {
	var sent []byte
	for _, d := range dialogue {
		if size -= len(bufsock.AppendNetstring(nil, []byte(d.request))); size >= 0 {
			sent = bufsock.AppendNetstring(sent, []byte(d.reply))
		}
	}
	return string(sent)
}

// serveOn serves a connection and wants the replies to so many bytes.
func serveOn(t *testing.T, conn net.Conn, size int) {
	virtual := &table{file: "virtual.txt"}
	virtual.serve(t.Context(), bufsock.NewNetstringSocket(conn))
	require.Equal(t, replies(size), string(conn.(*bufsocktest.Player).Sent()))
}

func TestServeUnderEveryCut(t *testing.T) {
	bufsocktest.Run(t, requests(), func(t *testing.T, conn net.Conn) { serveOn(t, conn, len(requests())) })
}

// Whatever ends the connection: what was asked for is answered, and no part of a
// request is. A client that pauses for more than an hour is gone.
func TestServeInterrupted(t *testing.T) {
	for _, what := range []bufsocktest.Interruption{bufsocktest.Pause, bufsocktest.Reset, bufsocktest.End} {
		bufsocktest.Interrupt(t, requests(), what, func(t *testing.T, conn net.Conn) {
			serveOn(t, conn, conn.(*bufsocktest.Player).Place())
		})
	}
}
