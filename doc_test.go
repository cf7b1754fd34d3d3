package bufsock_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/require"
)

// This file tests the code in the package documentation.

func TestExactTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := net.Pipe()
		defer conn.Close()
		go io.WriteString(peer, "220 mail.exam") // and no more
		s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(time.Minute))
		start := time.Now()
		_, err := s.RecvUntil([]byte("\r\n"))
		d := time.Since(start)
		if !errors.Is(err, os.ErrDeadlineExceeded) || d != time.Minute {
			t.Errorf("after %v: %v", d, err)
		}
	})
}

func TestListOfLines(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("a\r\nb", "\r\n.\r\n!"))

	var list []string
	err := s.RecvFunc(func(m *bufsock.Message) error {
		for list = nil; ; { // it may run again
			line, err := m.Until([]byte("\r\n"))
			if err != nil || string(line) == "." {
				return err
			}
			list = append(list, string(line))
		}
	})

	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, list)
	require.Equal(t, "!", string(s.RecvBuffer()))
}

// Each of these blocks of code in doc.go is here, word for word.
func TestDocumentationIsTested(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	test, err := os.ReadFile("doc_test.go")
	require.NoError(t, err)
	tested := 0
	for block := range strings.SplitSeq(string(doc), "\n//\n") {
		if !strings.HasPrefix(block, "//\tvar list") && !strings.HasPrefix(block, "//\tsynctest") {
			continue
		}
		tested++
		require.Contains(t, string(test), strings.ReplaceAll(block, "//\t", "\t")+"\n")
	}
	require.Equal(t, 2, tested)
}
