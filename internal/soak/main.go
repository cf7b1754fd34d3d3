// Soak has clients and servers talk to each other over TCP, Unix and TLS
// connections, many at once and for a long time, while connections go wrong and
// calls time out and are canceled, and wants every message to arrive exactly
// once.
//
//	go run ./internal/soak -connections 2000 -duration 5m -seed 1
//
// It prints a line per second and a table at the end. The exit status is 1 if a
// message was lost, doubled or damaged, or goroutines are left behind.
package main

import (
	"flag"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// grace is how long conversations may take to come to their ends.
const grace = 2 * time.Minute

func main() {
	connections := flag.Int("connections", 200, "how many connections are open at once")
	duration := flag.Duration("duration", 30*time.Second, "for how long messages are sent")
	seed := flag.Uint64("seed", rand.Uint64(), "where all choices come from")
	flag.Parse()
	log.SetFlags(0)
	if *connections < 1 || *duration <= 0 || flag.NArg() > 0 {
		log.Fatalf("soak: expected one connection or more, a duration over zero and no arguments, got %d, %v and %q",
			*connections, *duration, flag.Args())
	}
	fmt.Printf("soak: %d connections for %v on %d CPUs, seed %d\n", *connections, *duration, runtime.GOMAXPROCS(0), *seed)

	before := measure()
	var c counters
	soak(&c, *connections, *duration, *seed)
	after := settle(before.goroutines)
	c.table(os.Stdout, before, after)
	if c.faulty() || after.goroutines > before.goroutines {
		if after.goroutines > before.goroutines {
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		}
		fmt.Printf("soak: FAILED; to repeat: go run ./internal/soak -connections %d -duration %v -seed %d\n", *connections, *duration, *seed)
		os.Exit(1)
	}
}

// soak holds conversations, so many at once, until the time is up and all have
// ended.
func soak(c *counters, connections int, duration time.Duration, seed uint64) {
	n, err := listen(c)
	if err != nil {
		log.Fatalf("soak: %v", err)
	}
	defer n.close()
	var stop atomic.Bool
	timer := time.AfterFunc(duration, func() { stop.Store(true) })
	defer timer.Stop()
	defer watchdog(duration + grace).Stop()
	ended := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { c.report(os.Stdout, ended) })

	var clients sync.WaitGroup
	for i := range connections {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() {
			for !stop.Load() {
				n.converse(r, &stop)
			}
		})
	}
	clients.Wait()
	close(ended)
	reporting.Wait()
}

// watchdog ends the program, with all its stacks, unless it is stopped in time.
func watchdog(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() {
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		log.Fatalf("soak: FAILED: conversations have not ended after %v", d)
	})
}

// usage is what the program takes up.
type usage struct {
	goroutines int
	heap       uint64 // bytes
}

func measure() usage {
	runtime.GC()
	runtime.GC() // the first one leaves what pools hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{runtime.NumGoroutine(), m.HeapAlloc}
}

// settle measures when there are no more than so many goroutines, or at last.
func settle(goroutines int) usage {
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return measure()
}
