package bufsock

import "bytes"

const (
	// directSize is how much of a message must still be missing, or at least fit
	// into dst, for it to be read straight into the caller's memory.
	directSize = 16 << 10

	// directBegun is how much of a message whose size is not known must have
	// come.
	directBegun = 64 << 10

	// directRead is how much is asked for then at a time. What is behind the
	// message has to be copied.
	directRead = 256 << 10
)

// A direct is what was read straight into memory of the caller. In the stream
// it stands behind the first at bytes of the buffer.
type direct struct {
	p  []byte
	at int
}

func (d *direct) len() int {
	if d == nil {
		return 0
	}
	return len(d.p)
}

// readDirect reads what is missing of a message of size bytes, which begins at
// the place, into dst, if that has room and it is worth it. What it returns no
// error for may still be missing bytes.
func (c *call) readDirect(at, size int) error {
	h := c.h
	begun := max(h.data.len()-at, 0)
	if size-begun < directSize || cap(c.dst)-len(c.dst) < size || c.timeout == 0 || c.canceled() {
		return nil
	}
	p := c.dst[len(c.dst):][begun:size]
	for n := 0; n < len(p); {
		if err := c.kept(); err != nil {
			return err
		}
		m, err := c.read(p[n:])
		if err == errTimeUp && c.l.polls {
			return nil // fill can look for what has arrived
		}
		if err != nil {
			return err
		}
		if c.idling {
			c.begin()
		}
		n += m
		c.setDirect(p[:n], at+begun)
	}
	return nil
}

// maySearchDirect reports whether so much of a message has come without its
// delimiter, and dst has so much room for the rest, that searchDirect is worth
// it.
func (c *call) maySearchDirect() bool {
	n := c.h.data.len()
	return n >= directBegun && min(cap(c.dst)-len(c.dst), c.limit())-n >= directSize &&
		c.timeout != 0 && !c.out && !c.canceled()
}

// searchDirect moves what is buffered to dst, reads the rest of the message
// behind it, and returns where the delimiter begins, which need not fit. If the
// message does not, or there is an error, all is in the buffer again and the
// first searched bytes need no second look; it returns -1.
func (c *call) searchDirect(from int, delim []byte) (i, searched int, err error) {
	p := c.dst[len(c.dst):cap(c.dst)]
	p = p[:min(len(p), c.limit())]
	n := c.moveDirect(p)
	for i = -1; i < 0 && n < len(p) && err == nil; {
		if err = c.kept(); err != nil {
			break
		}
		var m int
		m, err = c.read(p[n:min(len(p), n+directRead)])
		n += m
		c.setDirect(p[:n], 0)
		if err == nil {
			i, err = c.findDelimiter(p[:n], 0, from, delim)
			from = max(from, n-len(delim)+1)
		}
	}
	if i >= 0 {
		c.cutDirect(i + len(delim))
		return i, from, nil
	}
	if err == nil {
		if i, err = c.searchBehind(p, delim); i >= 0 {
			return i, from, nil
		}
	}
	c.h.mu.Lock()
	c.h.restoreDirect()
	c.h.mu.Unlock()
	if err == errTimeUp && c.l.polls {
		err = c.fill() // which can look for what has arrived
	}
	return -1, from, err
}

// searchBehind returns where a delimiter begins in p, which is full, or at its
// end, and ends in the buffer behind it; or -1.
func (c *call) searchBehind(p, delim []byte) (int, error) {
	for {
		data, pending := c.h.data.bytes(), false
		for i := max(0, len(p)-len(delim)+1); i <= len(p) && i+len(delim) <= c.limit(); i++ {
			rest, ok := bytes.CutPrefix(delim, p[i:])
			switch n := min(len(rest), len(data)); {
			case !ok || !bytes.Equal(rest[:n], data[:n]):
			case n == len(rest):
				return i, nil
			default:
				pending = true
			}
		}
		if !pending {
			return -1, nil
		}
		if err := c.fill(); err != nil {
			return -1, err
		}
	}
}

// moveDirect moves what is buffered to p, which is memory of the caller.
func (c *call) moveDirect(p []byte) int {
	h := c.h
	h.mu.Lock()
	defer h.mu.Unlock()
	n := copy(p, h.data.bytes())
	h.data.consume(n)
	c.direct = direct{p[:n], 0}
	h.direct = &c.direct
	return n
}

// takeDirect is takePart for a message of which a part was read into dst.
func (c *call) takeDirect(at, size int) []byte {
	h := c.h
	h.mu.Lock()
	defer h.mu.Unlock()
	if cap(c.dst)-len(c.dst) < size { // the delimiter that it ends in does not fit
		h.restoreDirect()
		return c.deliver(h.data.bytes()[at : at+size])
	}
	data, d := h.data.bytes(), h.direct
	msg := c.dst[:len(c.dst)+size]
	part := msg[len(c.dst):]
	copy(part, data[at:d.at])
	copy(part[min(d.at-at+len(d.p), size):], data[d.at:]) // d may end in the delimiter
	h.direct = nil
	c.taken -= len(d.p)
	return msg
}

func (c *call) setDirect(p []byte, at int) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.direct = direct{p, at}
	c.h.direct = &c.direct
}

// cutDirect moves all but the first n of the bytes that were read into memory of
// the caller to the buffer, which is empty.
func (c *call) cutDirect(n int) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if behind := c.direct.p[n:]; len(behind) > 0 {
		copy(c.h.data.insert(0, len(behind)), behind)
	}
	c.direct.p = c.direct.p[:n]
}

// restoreDirect moves what was read into memory of the caller into the buffer,
// where it belongs until a call consumes it.
func (h *half) restoreDirect() {
	d := h.direct
	h.direct = nil
	if d == nil {
		return
	}
	if h.data == nil {
		h.data = newBuffer(len(d.p))
	}
	copy(h.data.insert(d.at, len(d.p)), d.p)
}
