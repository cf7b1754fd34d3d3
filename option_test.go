package bufsock_test

import (
	"bufio"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestInvalidArguments(t *testing.T) {
	w := segments("abc\n")
	s := bufsock.NewBufferedSocket(w)
	ns := bufsock.NewNetstringSocket(s)
	require.NoError(t, s.Buffer([]byte("out")))
	lf := []byte("\n")
	all := map[string]bufsock.Option{
		"WithTimeout":   bufsock.WithTimeout(time.Second),
		"WithContext":   bufsock.WithContext(context.Background()),
		"WithMaxSize":   bufsock.WithMaxSize(10),
		"WithReadSize":  bufsock.WithReadSize(10),
		"WithDelimiter": bufsock.WithDelimiter(),
		"AppendTo":      bufsock.AppendTo(nil),
		"Option{}":      {},
	}
	calls := map[string]struct {
		takes string
		call  func(...bufsock.Option) error
	}{
		"Recv":             {"AppendTo", func(o ...bufsock.Option) error { _, err := s.Recv(1, o...); return err }},
		"RecvSize":         {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvSize(1, o...); return err }},
		"RecvUntil":        {"AppendTo WithMaxSize WithDelimiter", func(o ...bufsock.Option) error { _, err := s.RecvUntil(lf, o...); return err }},
		"RecvUntilAny":     {"AppendTo WithMaxSize WithDelimiter", func(o ...bufsock.Option) error { _, _, err := s.RecvUntilAny([][]byte{lf}, o...); return err }},
		"RecvSplit":        {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvSplit(bufio.ScanLines, o...); return err }},
		"RecvFunc":         {"WithMaxSize", func(o ...bufsock.Option) error { return s.RecvFunc(followed(new([]string)), o...) }},
		"Tokens":           {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { return firstError(s.Tokens(bufio.ScanLines, o...)) }},
		"RecvClose":        {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.RecvClose(o...); return err }},
		"Peek":             {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := s.Peek(1, o...); return err }},
		"Discard":          {"", func(o ...bufsock.Option) error { _, err := s.Discard(1, o...); return err }},
		"DiscardUntil":     {"", func(o ...bufsock.Option) error { _, err := s.DiscardUntil(lf, o...); return err }},
		"Send":             {"", func(o ...bufsock.Option) error { _, err := s.Send(lf, o...); return err }},
		"SendBuffers":      {"", func(o ...bufsock.Option) error { _, err := s.SendBuffers([][]byte{lf}, o...); return err }},
		"Flush":            {"", func(o ...bufsock.Option) error { return s.Flush(o...) }},
		"ReadNetstring":    {"AppendTo WithMaxSize", func(o ...bufsock.Option) error { _, err := ns.ReadNetstring(o...); return err }},
		"DiscardNetstring": {"", func(o ...bufsock.Option) error { _, err := ns.DiscardNetstring(o...); return err }},
		"WriteNetstring":   {"WithMaxSize", func(o ...bufsock.Option) error { return ns.WriteNetstring(lf, o...) }},
	}
	for op, call := range calls {
		for name, o := range all {
			if name == "WithTimeout" || name == "WithContext" || strings.Contains(call.takes, name) {
				continue
			}
			err := call.call(o)
			assert.ErrorIsf(t, err, bufsock.ErrInvalidArgument, "%s(%s)", op, name)
			assert.ErrorContains(t, err, "bufsock: "+op+": ")
		}
		var none context.Context
		assert.ErrorIs(t, call.call(bufsock.WithContext(none)), bufsock.ErrInvalidArgument)
	}
	bad := map[string]func() error{
		"empty delimiter":         func() error { _, err := s.RecvUntil([]byte{}); return err },
		"nil delimiter":           func() error { _, err := s.RecvUntil(nil); return err },
		"no delimiters":           func() error { _, _, err := s.RecvUntilAny(nil); return err },
		"one empty delimiter":     func() error { _, _, err := s.RecvUntilAny([][]byte{lf, nil}); return err },
		"nothing to discard to":   func() error { _, err := s.DiscardUntil(nil); return err },
		"nil split function":      func() error { _, err := s.RecvSplit(nil); return err },
		"nil split of Tokens":     func() error { return firstError(s.Tokens(nil)) },
		"nil message function":    func() error { return s.RecvFunc(nil) },
		"nil upgrade":             func() error { return s.Upgrade(nil) },
		"negative RecvSize":       func() error { _, err := s.RecvSize(-1); return err },
		"negative Recv":           func() error { _, err := s.Recv(-1); return err },
		"negative Peek":           func() error { _, err := s.Peek(-1); return err },
		"negative Discard":        func() error { _, err := s.Discard(-1); return err },
		"no context to dial with": func() error { var none context.Context; _, err := bufsock.Dial(none, "tcp", "127.0.0.1:1"); return err },
	}
	for name, call := range bad {
		assert.ErrorIs(t, call(), bufsock.ErrInvalidArgument, name)
	}
	require.Empty(t, w.asked, "nothing was touched")
	require.Empty(t, w.writes, "nothing was touched")
	require.Equal(t, "out", string(s.SendBuffer()))
}

func TestConstructorsPanic(t *testing.T) {
	bad := map[string][]bufsock.Option{
		"WithContext":   {bufsock.WithContext(context.Background())},
		"WithDelimiter": {bufsock.WithDelimiter()},
		"AppendTo":      {bufsock.AppendTo(nil)},
		"WithReadSize":  {bufsock.WithReadSize(0)},
		"zero Option":   {{}},
	}
	for name, opts := range bad {
		for constructor, f := range map[string]func(){
			"NewBufferedSocket":  func() { bufsock.NewBufferedSocket(&wire{}, opts...) },
			"NewNetstringSocket": func() { bufsock.NewNetstringSocket(bufsock.NewBufferedSocket(&wire{}), opts...) },
			"Dial":               func() { bufsock.Dial(context.Background(), "tcp", "127.0.0.1:1", opts...) },
		} {
			msg := panicOf(f)
			assert.Contains(t, msg, "bufsock: "+constructor+": ")
			assert.Contains(t, msg, name)
		}
	}
	assert.Contains(t, panicOf(func() { bufsock.NewBufferedSocket(nil) }), "nil connection")
	assert.Contains(t, panicOf(func() { bufsock.NewNetstringSocket(nil) }), "nil connection")
}

// What a call that was refused says it has done is nothing.
func TestRefusedCallsCountNothing(t *testing.T) {
	s := bufsock.NewBufferedSocket(segments("abc\n"))
	ns := bufsock.NewNetstringSocket(s)
	for name, call := range map[string]func() (int, error){
		"Send":              func() (int, error) { return s.Send([]byte("abc"), bufsock.WithDelimiter()) },
		"SendBuffers":       func() (int, error) { return s.SendBuffers([][]byte{[]byte("abc")}, bufsock.WithDelimiter()) },
		"Discard":           func() (int, error) { return s.Discard(1, bufsock.WithDelimiter()) },
		"Discard of -1":     func() (int, error) { return s.Discard(-1) },
		"DiscardUntil":      func() (int, error) { return s.DiscardUntil([]byte("\n"), bufsock.WithDelimiter()) },
		"DiscardUntil of 0": func() (int, error) { return s.DiscardUntil(nil) },
		"DiscardNetstring":  func() (int, error) { return ns.DiscardNetstring(bufsock.WithDelimiter()) },
	} {
		n, err := call()
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument, name)
		require.Zero(t, n, name)
	}
	for name, call := range map[string]func() (int, error){
		"an option that does not apply": func() (int, error) {
			_, which, err := s.RecvUntilAny([][]byte{crlf}, bufsock.WithReadSize(1))
			return which, err
		},
		"no delimiter": func() (int, error) {
			_, which, err := s.RecvUntilAny(nil)
			return which, err
		},
		"an empty delimiter": func() (int, error) {
			_, which, err := s.RecvUntilAny([][]byte{crlf, {}})
			return which, err
		},
	} {
		which, err := call()
		require.ErrorIs(t, err, bufsock.ErrInvalidArgument, name)
		require.Equal(t, -1, which, name)
	}
}

// The constants have the values that the documentation gives.
func TestConstants(t *testing.T) {
	require.Equal(t, "10s", bufsock.DefaultTimeout.String())
	require.Equal(t, 32768, bufsock.DefaultMaxSize)
	require.EqualValues(t, -1, bufsock.NoTimeout)
	require.EqualValues(t, 0, bufsock.NonBlocking)
	require.Equal(t, -1, bufsock.NoLimit)
}
