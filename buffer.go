package bufsock

import (
	"bytes"
	"math/bits"
	"sync"
)

// A buffer is a queue of bytes in one piece of memory: they are added behind w
// and taken from r. Memory of up to 128 MiB comes from a pool and goes back to
// it. None of it is returned by a call; what is shown to a split function or a
// writer is theirs until they return.
//
// A nil *buffer is an empty one. An idle socket has two of those.
type buffer struct {
	mem  []byte
	r, w int
	pool *sync.Pool // of mem; nil: none

	// A search that has failed and may go on: which one, for what, and how many
	// bytes it need not look at again.
	search   search
	key      []byte
	at       int // where it began
	searched int

	// While views of the bytes are out nothing is moved in its memory, and memory
	// that is replaced is kept.
	pinned bool
	old    []*buffer
}

type search uint8

const (
	searchOne search = iota // for the delimiter key
	searchAny               // for the delimiters in key
)

// Pooled memory comes in classes. Class k serves 1<<k bytes and has an eighth
// more, so that the unread end of one read and a whole new one fit together.
const (
	minClass = 9
	maxClass = 27
)

var pools [maxClass + 1]sync.Pool

func room(class int) int { return 1<<class + 1<<(class-3) }

// newBuffer returns an empty buffer with room for at least n bytes, n > 0.
func newBuffer(n int) *buffer {
	k := max(bits.Len(uint(n-1)), minClass)
	if k > minClass && n <= room(k-1) {
		k--
	}
	if k > maxClass {
		return &buffer{mem: make([]byte, n)}
	}
	pool := &pools[k]
	if b, ok := pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{mem: make([]byte, room(k)), pool: pool}
}

// free gives the memory back. The buffer must not be used afterwards.
func (b *buffer) free() {
	b.unpin()
	b.r, b.w, b.searched = 0, 0, 0
	if b.pool != nil {
		b.pool.Put(b)
	}
}

func (b *buffer) len() int {
	if b == nil {
		return 0
	}
	return b.w - b.r
}

// bytes returns what is queued. It is valid until the buffer changes.
func (b *buffer) bytes() []byte {
	if b == nil {
		return nil
	}
	return b.mem[b.r:b.w]
}

// head returns what is queued, but at most n bytes.
func (b *buffer) head(n int) []byte {
	if b == nil {
		return nil
	}
	return b.mem[b.r:b.w][:min(n, b.w-b.r)]
}

// consume takes the first n bytes away.
func (b *buffer) consume(n int) {
	if n > 0 {
		b.r += n
		b.searched = 0
	}
}

// handOutSize is how large a message must be for the memory of the buffer to be
// handed out: of less it is cheaper to make a copy, and keep the memory.
const handOutSize = 4 << 20

// mayHandOut reports whether a message of size bytes is large enough to be
// handed out, and to fill at least half of the memory that goes with it.
func (b *buffer) mayHandOut(size int) bool {
	return size >= handOutSize && size >= len(b.mem)/2
}

// handOut takes the first n bytes away, and returns the size bytes at the place
// in the memory that they stand in, which is the caller's from then on. The bytes
// behind them move out of it. No views may be out.
func (b *buffer) handOut(at, size, n int) []byte {
	msg := b.bytes()[at : at+size : at+size]
	b.consume(n)
	b.pool = nil // the memory does not go back
	b.move(max(b.len(), 1))
	return msg
}

// reserve returns room for n bytes behind the queued ones. What is written
// there is added by commit.
func (b *buffer) reserve(n int) []byte {
	if len(b.mem)-b.w < n && b.len() <= b.r && !b.pinned {
		b.w = copy(b.mem, b.bytes())
		b.r = 0
	}
	if len(b.mem)-b.w < n {
		b.grow(n)
	}
	return b.mem[b.w : b.w+n]
}

func (b *buffer) commit(n int) { b.w += n }

// move puts the queued bytes into memory with room for n bytes.
func (b *buffer) move(n int) {
	next := newBuffer(n)
	next.w = copy(next.mem, b.bytes())
	b.swap(next)
	if b.pinned {
		b.old = append(b.old, next)
		return
	}
	next.free()
}

// pin keeps views of the bytes valid until unpin.
func (b *buffer) pin() {
	if b != nil {
		b.pinned = true
	}
}

func (b *buffer) unpin() {
	if b == nil || !b.pinned {
		return
	}
	b.pinned = false
	for _, old := range b.old {
		old.free()
	}
	clear(b.old)
	b.old = b.old[:0]
}

// swap exchanges the queued bytes and their memory with other.
func (b *buffer) swap(other *buffer) {
	b.mem, other.mem = other.mem, b.mem
	b.pool, other.pool = other.pool, b.pool
	b.r, other.r = other.r, b.r
	b.w, other.w = other.w, b.w
}

// append adds a copy of p.
func (b *buffer) append(p []byte) {
	if len(b.mem)-b.w < len(p) {
		b.grow(len(p))
	}
	b.w += copy(b.mem[b.w:], p)
}

// insert adds n bytes behind the first at queued ones, and returns where to
// write them. It neither moves queued bytes within their memory nor gives that
// back, because a write to the connection may be reading it.
func (b *buffer) insert(at, n int) []byte {
	if at < b.len() || len(b.mem)-b.w < n {
		queued := b.bytes()
		next := newBuffer(b.grown(n))
		copy(next.mem, queued[:at])
		next.w = at + copy(next.mem[at+n:], queued[at:])
		b.swap(next)
	}
	b.w += n
	return b.mem[b.r+at : b.r+at+n]
}

// grow makes room for n more bytes.
func (b *buffer) grow(n int) { b.move(b.grown(n)) }

// grown returns the room to ask for when n bytes are to be added: enough, and
// twice of what is there, so that adding stays linear.
func (b *buffer) grown(n int) int { return b.len() + max(n, b.len()) }

// wasteful reports whether there is memory that the queued bytes do not need.
func (b *buffer) wasteful() bool {
	return b != nil && (b.r == b.w || len(b.mem) > 256<<10 && b.w-b.r < len(b.mem)/8)
}

// tidy gives such memory back, and returns nil if no bytes are queued. While
// views are out it does nothing: the old memory would have to be kept as well.
func (b *buffer) tidy() *buffer {
	switch {
	case !b.wasteful() || b.pinned:
		return b
	case b.r == b.w:
		b.free()
		return nil
	}
	b.move(b.len())
	return b
}

// suspended reports whether a search of the kind that began at the place may
// be gone on with.
func (b *buffer) suspended(kind search, at int) bool {
	return b != nil && b.searched > 0 && b.search == kind && b.at == at
}

// resume returns where to go on with a search for delim that began at the
// place.
func (b *buffer) resume(at int, delim []byte) int {
	if b.suspended(searchOne, at) && bytes.Equal(b.key, delim) {
		return b.searched
	}
	return at
}

// suspend notes how far a search has come that began at the place. Unless there
// is nothing to search the caller has to append to key what is searched for.
func (b *buffer) suspend(kind search, at, searched int) bool {
	if b == nil {
		return false
	}
	b.search, b.at, b.searched, b.key = kind, at, searched, b.key[:0]
	return true
}
