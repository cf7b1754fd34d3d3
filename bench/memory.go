package bench

import "fmt"

// An IdleCost is what an idle connection costs that has served a line, in
// bytes: its part of the heap, and the stack of the goroutine that waits for
// the next line.
type IdleCost struct {
	Side        string
	Heap, Stack float64
}

// MaxIdleConnections returns how many connections IdleConnections can measure
// on this machine.
func MaxIdleConnections() int { return maxConnections() }

// IdleConnections measures what idle connections cost, with so many of them.
// The first is the bare connection. It calls progress with each side.
func IdleConnections(count int, progress func(side string)) ([]IdleCost, error) {
	var costs []IdleCost
	for _, side := range []string{serveBare, serveBufsock, serveBufio4K, serveBufio32K} {
		progress(side)
		cost, err := idleCost(side, count)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", side, err)
		}
		costs = append(costs, cost)
	}
	return costs, nil
}

func idleCost(side string, count int) (cost IdleCost, err error) {
	f, err := startFleet(side, 1) // the first connection costs more
	if err != nil {
		return cost, err
	}
	defer f.close()
	heap, stack, err := f.memory()
	if err != nil {
		return cost, err
	}
	more, err := f.connect(count)
	if err != nil {
		return cost, err
	}
	defer more.close()
	heapThen, stackThen, err := f.memory()
	return IdleCost{side, (heapThen - heap) / float64(count), (stackThen - stack) / float64(count)}, err
}

// memory returns what the server has in use.
func (f *fleet) memory() (heap, stack float64, err error) {
	answer, err := f.server.ask("memory")
	if err == nil {
		_, err = fmt.Sscan(answer, &heap, &stack)
	}
	return heap, stack, err
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
