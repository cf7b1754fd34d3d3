package bufsock

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// awaitDelimiter returns where the first delimiter begins behind the place at,
// once it has come. It must end within the first limit bytes.
func (c *call) awaitDelimiter(at int, delim []byte) (int, error) {
	from := c.h.data.resume(at, delim)
	for {
		i, err := c.findBuffered(at, from, delim)
		if i >= 0 {
			return i, nil
		}
		from = max(from, min(c.h.data.len(), c.limit())-len(delim)+1)
		switch {
		case err != nil:
		case c.maySearchDirect():
			if i, from, err = c.searchDirect(from, delim); i >= 0 {
				return i, nil
			}
		default:
			err = c.fill()
		}
		if err != nil {
			c.suspend(at, from, delim)
			return 0, err
		}
	}
}

// findBuffered is findDelimiter in what is buffered.
func (c *call) findBuffered(at, from int, delim []byte) (int, error) {
	return c.findDelimiter(c.h.data.head(c.limit()), at, from, delim)
}

// findDelimiter returns where the first delimiter begins in data at from or
// behind it, or -1, and an error if none can end within the limit that begins at
// the place.
func (c *call) findDelimiter(data []byte, at, from int, delim []byte) (int, error) {
	start := min(from, len(data))
	if i := bytes.Index(data[start:], delim); i >= 0 {
		return start + i, nil
	}
	if !canStillEnd(data[min(at, len(data)):], delim, c.limit()-at) {
		return -1, c.tooLong(bytes.Clone(delim))
	}
	return -1, nil
}

func (c *call) suspend(at, from int, delim []byte) {
	if b := c.h.data; b.suspend(searchOne, at, from) {
		b.key = append(b.key, delim...)
	}
}

// begins is bytes.HasPrefix for a prefix of a few bytes.
func begins(data, prefix []byte) bool {
	if len(data) < len(prefix) {
		return false
	}
	for i, b := range prefix {
		if data[i] != b {
			return false
		}
	}
	return true
}

// canStillEnd reports whether delim, of which there is no match in data, can
// end within the first limit bytes of a stream that begins with data.
func canStillEnd(data, delim []byte, limit int) bool {
	last := limit - len(delim) // where a match may begin at the latest; below zero: nowhere
	if last >= len(data) {
		return true
	}
	for i := max(0, len(data)-len(delim)+1); i <= last; i++ {
		if bytes.HasPrefix(delim, data[i:]) {
			return true
		}
	}
	return false
}

// beginning returns the length of the longest end of data that delim begins
// with and that is not all of it.
func beginning(data, delim []byte) int {
	n := min(len(data), len(delim)-1)
	for !bytes.HasPrefix(delim, data[len(data)-n:]) {
		n--
	}
	return n
}

// checkDelimiters returns an error if one of them is empty.
func checkDelimiters(op string, delims [][]byte) error {
	if len(delims) == 0 {
		return invalid(op, "no delimiter")
	}
	for _, d := range delims {
		if len(d) == 0 {
			return invalid(op, "empty delimiter")
		}
	}
	return nil
}

// awaitAny is awaitDelimiter for the delimiter that comes first of several. It returns
// where that ends, and which it is.
func (c *call) awaitAny(at int, delims [][]byte) (end, which int, err error) {
	h, limit := c.h, c.limit()
	m := newMatcher(delims)
	from := at
	if h.data.suspended(searchAny, at) && m.isKey(h.data.key) {
		from = h.data.searched
	}
	for {
		data := h.data.head(limit)
		if end, which := m.find(data, at, from); which >= 0 {
			return end, which, nil
		}
		from = max(from, len(data))
		if m.canStillEnd(data[min(at, len(data)):], limit-at) {
			err = c.fill()
		} else {
			err = c.tooLong(nil)
		}
		if err != nil {
			if h.data.suspend(searchAny, at, from) {
				h.data.key = m.appendKey(h.data.key)
			}
			return 0, -1, err
		}
	}
}

// A matcher finds the first of several delimiters.
type matcher struct {
	delims [][]byte
	last   [4]uint64 // the set of their last bytes
}

func newMatcher(delims [][]byte) matcher {
	m := matcher{delims: delims}
	for _, d := range delims {
		b := d[len(d)-1]
		m.last[b>>6] |= 1 << (b & 63)
	}
	return m
}

// find returns where the first match ends that begins at the place or behind it
// and ends behind from.
func (m *matcher) find(data []byte, at, from int) (end, which int) {
	for i := from; i < len(data); i++ {
		b := data[i]
		if m.last[b>>6]&(1<<(b&63)) == 0 {
			continue
		}
		if which = m.longestAt(data[at : i+1]); which >= 0 {
			return i + 1, which
		}
	}
	return 0, -1
}

// longestAt returns the longest delimiter that data ends with, or -1.
func (m *matcher) longestAt(data []byte) int {
	which, n := -1, 0
	for i, d := range m.delims {
		if len(d) > n && bytes.HasSuffix(data, d) {
			which, n = i, len(d)
		}
	}
	return which
}

func (m *matcher) canStillEnd(data []byte, limit int) bool {
	return slices.ContainsFunc(m.delims, func(d []byte) bool { return canStillEnd(data, d, limit) })
}

// appendKey appends what tells this search from others: the delimiters, each
// with its length before it.
func (m *matcher) appendKey(key []byte) []byte {
	for _, d := range m.delims {
		key = append(binary.AppendUvarint(key, uint64(len(d))), d...)
	}
	return key
}

// isKey reports whether key is the key of this search.
func (m *matcher) isKey(key []byte) bool {
	for _, d := range m.delims {
		n, k := binary.Uvarint(key)
		if n != uint64(len(d)) || !bytes.HasPrefix(key[k:], d) {
			return false
		}
		key = key[k+len(d):]
	}
	return len(key) == 0
}
