package bufsock_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/bufsock/bufsock"
	"github.com/bufsock/bufsock/bufsocktest"
)

// This file makes random calls on a stream that bufsocktest cuts at every place,
// pauses at every place and breaks at every place. The calls are the same each
// time, and so must be what they come to.

// scripts are how many streams there are, each with calls of its own.
const scripts = 12

// eachScript gives f the stream of each script.
func eachScript(t *testing.T, f func(t *testing.T, seed uint64, stream []byte)) {
	t.Helper()
	for seed := range uint64(scripts) {
		t.Run(fmt.Sprintf("script %d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 4))
			f(t, seed, randomBytes(r, 20+r.IntN(60)))
		})
	}
}

// follow makes the calls of a script, of a stream of which so much comes.
func follow(t *testing.T, seed uint64, conn net.Conn, coming []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 5))
	counted := bufsocktest.NewConn(conn, seed, bufsocktest.Faults{})
	rd := &reading{
		t: t, r: r, rest: coming,
		ns:         bufsock.NewNetstringSocket(counted),
		impatience: patience,
		passed:     func() int { in, _ := counted.Transferred(); return int(in) },
	}
	for range 20 {
		rd.receive(anyRequest(r))
	}
	rd.finish()
}

func TestLawsUnderEveryCut(t *testing.T) {
	eachScript(t, func(t *testing.T, seed uint64, stream []byte) {
		bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) { follow(t, seed, conn, stream) })
	})
}

func TestLawsWithAPauseAtEveryPlace(t *testing.T) {
	eachScript(t, func(t *testing.T, seed uint64, stream []byte) {
		bufsocktest.Interrupt(t, stream, bufsocktest.Pause, func(t *testing.T, conn net.Conn) {
			follow(t, seed, conn, stream)
		})
	})
}

func TestLawsWithAnEndAtEveryPlace(t *testing.T) {
	for _, what := range []bufsocktest.Interruption{bufsocktest.End, bufsocktest.Reset} {
		t.Run(what.String(), func(t *testing.T) {
			eachScript(t, func(t *testing.T, seed uint64, stream []byte) {
				bufsocktest.Interrupt(t, stream, what, func(t *testing.T, conn net.Conn) {
					follow(t, seed, conn, stream[:conn.(*bufsocktest.Player).Place()])
				})
			})
		})
	}
}
