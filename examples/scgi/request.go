package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bufsock/bufsock"
)

// maxMessage is how long a header may be, with the form behind it.
const maxMessage = 64 << 10

// A request is a header, which has a size, and the body if that is a form.
type request struct {
	method           string
	size             int64 // of the body
	isForm, tooLarge bool
	form             string
}

// read is for [bufsock.BufferedSocket.RecvFunc].
func (r *request) read(m *bufsock.Message) error {
	header, err := m.Netstring()
	if err != nil {
		return err
	}
	params := map[string]string{}
	for pair := range slices.Chunk(strings.Split(string(header), "\x00"), 2) {
		params[pair[0]] = pair[len(pair)-1]
	}
	size, err := strconv.ParseUint(params["CONTENT_LENGTH"], 10, 63)
	if err != nil || params["SCGI"] != "1" {
		return fmt.Errorf("a header of %d bytes without CONTENT_LENGTH or SCGI", len(header))
	}
	*r = request{method: params["REQUEST_METHOD"], size: int64(size)}
	r.isForm = strings.HasPrefix(params["CONTENT_TYPE"], "application/x-www-form-urlencoded")
	r.tooLarge = r.size > *maxFile || r.isForm && r.size > int64(maxMessage-m.Offset())
	if r.isForm && !r.tooLarge {
		var body []byte
		body, err = m.Next(int(size))
		r.form = string(body)
	}
	return err
}

// answer returns the status and the answer. A body that is no form it reads
// from s.
func (r *request) answer(s *bufsock.BufferedSocket) (status, text string) {
	switch {
	case r.method != "POST" && r.method != "PUT":
		return "200 OK", "Send a form, or a file."
	case r.tooLarge:
		return "413 Content Too Large", "too large"
	case r.isForm:
		fields, err := url.ParseQuery(r.form)
		if err != nil {
			return "400 Bad Request", err.Error()
		}
		return "200 OK", fields.Encode()
	}
	name, err := keep(s, r.size)
	if err != nil {
		slog.Error("file not kept", "err", err)
		return "500 Internal Server Error", err.Error()
	}
	return "201 Created", name
}

// keep streams a body into a file and returns the name of that.
func keep(s *bufsock.BufferedSocket, size int64) (name string, err error) {
	f, err := os.CreateTemp(*dir, "upload-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // fails once it is renamed, which is as well
	defer f.Close()
	hash := sha256.New()
	if n, err := io.CopyN(io.MultiWriter(f, hash), s, size); err != nil {
		return "", fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	name = fmt.Sprintf("%x", hash.Sum(nil))
	if err = f.Close(); err == nil {
		err = os.Rename(f.Name(), filepath.Join(*dir, name))
	}
	return name, err
}
