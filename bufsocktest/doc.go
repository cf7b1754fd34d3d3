// Package bufsocktest helps to test a protocol on a [net.Conn] of any kind: that
// it works however the network cuts the bytes, and that it does what it should
// when a timeout, a reset or an end comes in the middle.
//
// [Run] plays a stream of bytes to a function once for each way in which a
// network can cut it, [Interrupt] with something between two pieces, at every
// place once. [NewConn] makes a connection go wrong at random, by seed. None of
// them needs package bufsock, and no pause takes real time.
//
// The tests below are for a protocol of requests "store n", a line end and n
// bytes, each answered by "stored n".
//
// # A parser under every cut
//
// It must read the same however the bytes come, and must not take a part of a
// request for a whole one:
//
//	func TestReadRequest(t *testing.T) {
//		stream := []byte("store 5\nhello")
//		bufsocktest.Run(t, stream, func(t *testing.T, conn net.Conn) {
//			body, err := readRequest(bufio.NewReader(conn))
//			if err != nil || string(body) != "hello" {
//				t.Errorf("got %q, %v", body, err)
//			}
//		})
//		bufsocktest.Interrupt(t, stream, bufsocktest.End, func(t *testing.T, conn net.Conn) {
//			isWhole := conn.(*bufsocktest.Player).Place() == len(stream)
//			body, err := readRequest(bufio.NewReader(conn))
//			if isWhole != (err == nil) {
//				t.Errorf("got %q, %v", body, err)
//			}
//		})
//	}
//
// # A client that survives a timeout at every place
//
// A reply that comes late must not be lost, nor the half of it that came in time:
//
//	func TestClientSurvivesTimeouts(t *testing.T) {
//		stream := []byte("stored 5\nstored 70\n")
//		bufsocktest.Interrupt(t, stream, bufsocktest.Pause, func(t *testing.T, conn net.Conn) {
//			c := newClient(conn)
//			for _, want := range []string{"stored 5", "stored 70"} {
//				if got, err := c.reply(); err != nil || got != want {
//					t.Fatalf("got %q, %v; want %q", got, err, want)
//				}
//			}
//		})
//	}
//
// # A server under random faults
//
// The name of the subtest that fails has the seed, which repeats it:
//
//	func TestServerOnBadConnections(t *testing.T) {
//		for seed := range uint64(100) {
//			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
//				synctest.Test(t, func(t *testing.T) {
//					client, server := net.Pipe()
//					var serving sync.WaitGroup
//					defer serving.Wait()
//					defer client.Close()
//					conn := bufsocktest.NewConn(server, seed, bufsocktest.Faults{
//						CutReads: 0.5, EmptyReads: 0.1, CutWrites: 0.5, Delays: 0.1,
//					})
//					serving.Go(func() { serve(conn) })
//					go io.WriteString(client, "store 5\nhellostore 1\n!")
//					r := bufio.NewReader(client)
//					for _, want := range []string{"stored 5\n", "stored 1\n"} {
//						if got, err := r.ReadString('\n'); err != nil || got != want {
//							t.Fatalf("got %q, %v; want %q", got, err, want)
//						}
//					}
//				})
//			})
//		}
//	}
//
// # What fails
//
// A parser that takes what one Read returns for a line fails under Run. One that
// looks at the error of a Read before its bytes fails "with data". One that
// drops what had come when a timeout came fails in a Pause. One that takes a
// connection that breaks, or ends too early, for a whole message fails in a
// Reset or an End. A failure looks like this, and its last line repeats it:
//
//	--- FAIL: TestReadRequest/cut_at_3 (0.00s)
//	    request_test.go:15: got "", no request: "sto"
//	    run.go:207: to repeat: go test -run '^TestReadRequest$/^cut_at_3$' example.org/store
package bufsocktest
