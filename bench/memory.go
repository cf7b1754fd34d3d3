package bench

import "fmt"

// An IdleCost is what an idle connection costs that has served a line, in
// bytes: its part of the heap, the stack of the goroutine that waits for the
// next line, and what of the process's memory is in RAM.
type IdleCost struct {
	Kind                  Kind
	Side                  string
	Heap, Stack, Resident float64
}

// IdleGoal returns how many bytes an idle connection of bufsock may cost beyond
// the bare one, and whether its stack counts, too.
func IdleGoal(kind Kind) (goal float64, stack bool) {
	switch kind {
	case TCP, Unix:
		return 600, true
	}
	return 800, false
}

// Beyond returns what of the cost the goal is for, beyond that of the bare
// connection.
func (c *IdleCost) Beyond(bare *IdleCost) float64 {
	n := c.Heap - bare.Heap
	if _, stack := IdleGoal(c.Kind); stack {
		n += c.Stack - bare.Stack
	}
	return n
}

// IsSubject reports whether the cost is that of bufsock.
func (c *IdleCost) IsSubject() bool { return c.Side == serveBufsock }

// Fleets returns how many processes have to share so many connections.
func Fleets(count int) int { return (count + maxConnections() - 1) / maxConnections() }

// IdleSides are the sides that IdleConnections can measure.
func IdleSides() []string {
	return []string{serveBare, serveBufsock, serveBufio4K, serveBufio32K}
}

// IdleConnections measures what idle connections of the kind cost, with so many
// of them, which need not fit into one process. It calls progress with each
// side.
func IdleConnections(kind Kind, count int, sides []string, progress func(side string)) ([]IdleCost, error) {
	var costs []IdleCost
	for _, side := range sides {
		progress(side)
		cost, err := idleCost(kind, side, count)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", side, err)
		}
		costs = append(costs, cost)
	}
	return costs, nil
}

// idleCost opens the connections and keeps all of them until it has asked.
func idleCost(kind Kind, side string, count int) (cost IdleCost, err error) {
	var total usage
	most := maxConnections()
	for left := count; left > 0; left -= most {
		grown, end, err := idleFleet(kind, side, min(left, most))
		if err != nil {
			return cost, err
		}
		defer end()
		total.add(grown, 1)
	}
	n := float64(count)
	return IdleCost{kind, side, total.heap / n, total.stack / n, total.resident / n}, nil
}

// idleFleet opens the connections and returns by how much the server has grown.
func idleFleet(kind Kind, side string, count int) (grown usage, end func(), err error) {
	f, err := startFleet(serveTask, kind, side, 1) // the first connection costs more
	if err != nil {
		return grown, nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	before, err := f.memory()
	if err != nil {
		return grown, nil, err
	}
	more, err := f.connect(count)
	if err != nil {
		return grown, nil, err
	}
	end = func() {
		more.close()
		f.close()
	}
	if grown, err = f.memory(); err != nil {
		more.close()
	}
	grown.add(before, -1)
	return grown, end, err
}

// A usage is the memory that a process has in use, in bytes.
type usage struct{ heap, stack, resident float64 }

func (u *usage) add(other usage, times float64) {
	u.heap += times * other.heap
	u.stack += times * other.stack
	u.resident += times * other.resident
}

// memory returns what the server has in use.
func (f *fleet) memory() (u usage, err error) {
	answer, err := f.server.ask("memory")
	if err == nil {
		_, err = fmt.Sscan(answer, &u.heap, &u.stack, &u.resident)
	}
	return u, err
}

// A HeldMemory is by how many bytes the heap has grown after a connection has
// received one large message, which is not in use any more.
type HeldMemory struct {
	Side string
	Heap float64
}

// AfterLargeMessage measures what a connection holds after one message of size
// bytes.
func AfterLargeMessage(size int, progress func(side string)) ([]HeldMemory, error) {
	wire := func(size int) []byte { return append(text(size), lf...) }
	sides := []Side{
		receiving(recvUntil, "", wire, receiveUntil(lf)),
		receiving(bufioReadBytes, "", wire, readBytes(readSize)),
		receiving(bufioScanner, "", wire, scan),
		netpollSide(netpollUntil, wire, until),
	}
	var held []HeldMemory
	for _, side := range sides {
		progress(side.Name)
		grown, err := heapHeld(&side, size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", side.Name, err)
		}
		held = append(held, HeldMemory{side.Name, grown})
	}
	return held, nil
}

func heapHeld(side *Side, size int) (float64, error) {
	session, err := side.Start(size, nil)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	before := memory().HeapAlloc
	if _, err := session.Do(1); err != nil {
		return 0, err
	}
	return float64(memory().HeapAlloc) - float64(before), nil
}
