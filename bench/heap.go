package bench

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"
)

// A HeapPart is what a function has allocated of the heap of an idle connection
// of bufsock, in bytes.
type HeapPart struct {
	Function string
	Bytes    float64
}

// IdleHeap returns what functions of bufsock, and those that they call, have
// allocated of what is in use for idle connections of the kind, with so many of
// them in one process. The largest comes first.
func IdleHeap(kind Kind, count int) ([]HeapPart, error) {
	f, err := startFleet(profiledTask, kind, serveBufsock, 1) // the first connection costs more
	if err != nil {
		return nil, err
	}
	defer f.close()
	held := heapHolders{}
	if err := held.add(f.server, -1); err != nil {
		return nil, err
	}
	more, err := f.connect(count)
	if err != nil {
		return nil, err
	}
	defer more.close()
	if err := held.add(f.server, 1); err != nil {
		return nil, err
	}
	return held.parts(count), nil
}

// heapHolders are functions with the bytes that they have allocated.
type heapHolders map[string]int

// add adds what is in use in the process, or takes it away.
func (h heapHolders) add(c *child, times int) error {
	answer, err := c.ask("heap")
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(answer)
	if err != nil {
		return err
	}
	return eachHeapSample(raw, func(stack []string, inUse int) {
		if function, ok := heapHolder(stack); ok {
			h[function] += times * inUse
		}
	})
}

// heapHolder returns the function that has allocated, given it and its callers,
// if bufsock is among them.
func heapHolder(stack []string) (string, bool) {
	for _, function := range stack {
		if strings.HasPrefix(function, bufsockPackage) {
			return strings.TrimPrefix(stack[0], "github.com/bufsock/"), true
		}
	}
	return "", false
}

// parts are the bytes for one of count connections, if they are one at least.
func (h heapHolders) parts(count int) (parts []HeapPart) {
	for function, bytes := range h {
		if bytes >= count {
			parts = append(parts, HeapPart{function, float64(bytes) / float64(count)})
		}
	}
	slices.SortFunc(parts, func(a, b HeapPart) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Function, b.Function))
	})
	return parts
}
