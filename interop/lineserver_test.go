package interop_test

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pipeliner sends requests without waiting for answers, but not so far ahead
// that both sides wait for each other.
type pipeliner struct {
	*bufsock.BufferedSocket
	key   string
	ahead chan struct{} // how many requests are unanswered
	warm  func()        // called behind the answer to some requests
}

// send sends requests until ctx ends: each sets a value and gets it.
func (p *pipeliner) send(ctx context.Context) error {
	for n := 0; ; n++ {
		select {
		case p.ahead <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		if err := p.Buffer(fmt.Appendf(nil, "set %[1]s %[2]d\nget %[1]s\n", p.key, n)); err != nil {
			return err
		}
		if n%8 == 7 {
			if err := p.Flush(); err != nil {
				return err
			}
		}
	}
}

// run checks answers until the stream ends, which it must do cleanly, behind a
// line that says so. It returns how many requests have been answered.
func (p *pipeliner) run(ctx context.Context) (answers int, err error) {
	defer p.Close()
	ctx, cancel := context.WithCancel(ctx)
	sent := goDo(func() (any, error) { return nil, p.send(ctx) })
	defer func() {
		cancel()
		if sending := <-sent; err == nil {
			err = sending.err
		}
	}()
	ended := false
	for line, err := range p.Messages([]byte("\n")) {
		want := "OK"
		if answers%2 == 1 {
			want = "OK " + strconv.Itoa(answers/2)
		}
		switch {
		case err != nil:
			return answers, err
		case !ended && string(line) == "BYE server is ending":
			ended = true
			continue
		case ended || string(line) != want:
			return answers, fmt.Errorf("%s: answer %d is %q, not %q", p.key, answers, line, want)
		}
		if answers++; answers%2 == 0 {
			<-p.ahead
		}
		if answers == 200 {
			p.warm()
		}
	}
	if !ended {
		err = fmt.Errorf("%s: the stream has ended behind answer %d without a word", p.key, answers)
	}
	return answers, err
}

// TestLineServerShutdown ends the line server while 200 clients send it lines
// as fast as they can: each sees whole, consecutive answers and a clean end, and
// all answers that the server says it has given.
func TestLineServerShutdown(t *testing.T) {
	t.Parallel()
	const clients = 200
	app := startExample(t, "lineserver", "-listen", "127.0.0.1:0", "-max-clients", "300", "-timeout", "1m")
	var warm sync.WaitGroup
	warm.Add(clients)
	ended := make([]<-chan outcome[int], clients)
	for i := range ended {
		p := &pipeliner{dial(t, app.addr), "k" + strconv.Itoa(i), make(chan struct{}, 64), warm.Done}
		ended[i] = goDo(func() (int, error) { return p.run(t.Context()) })
	}
	await(t, goDo(func() (any, error) { warm.Wait(); return nil, nil }))
	app.interrupt(t)
	answers := 0
	for _, c := range ended {
		answers += await(t, c)
	}
	require.NoError(t, app.wait(t))

	given := 0
	disconnected := regexp.MustCompile(`disconnected.* lines=(\d+)`).FindAllStringSubmatch(app.output.String(), -1)
	require.Len(t, disconnected, clients)
	for _, match := range disconnected {
		n, err := strconv.Atoi(match[1])
		require.NoError(t, err)
		given += n
	}
	assert.Equal(t, given, answers)
}
