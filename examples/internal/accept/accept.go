// Package accept is what the servers among the examples share: the loop that
// accepts connections, and how a program ends. It knows nothing of bufsock.
// Who copies an example copies this file, too.
package accept

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// UntilSignal is [Until] with a context that ends with Ctrl-C or SIGTERM. A
// second signal ends the program at once.
func UntilSignal(l net.Listener, limit int, serve func(context.Context, net.Conn)) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() {
		stop()
		slog.Info("shutting down")
	})
	return Until(ctx, l, limit, serve)
}

// Until accepts connections until ctx ends, and calls serve in a goroutine for
// each, which has to close it. It closes l, and returns when all of them have
// returned: nil, or the error that made accepting impossible.
//
// No more than limit are served at a time; others wait, unaccepted.
func Until(ctx context.Context, l net.Listener, limit int, serve func(context.Context, net.Conn)) error {
	slog.Info("listening", "addr", l.Addr())
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var served sync.WaitGroup
	defer served.Wait()
	free := make(chan struct{}, limit)
	for {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.Accept()
		switch {
		case err == nil:
			served.Go(func() {
				defer func() { <-free }()
				serve(ctx, conn)
			})
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		}
		<-free
		slog.Error("cannot accept", "err", err) // such as too many open files, which passes
		time.Sleep(100 * time.Millisecond)
	}
}
