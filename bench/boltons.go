package bench

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

//go:embed receive_boltons.py
var boltonsScript string

// ErrMissing is matched by the error of a side that this machine has not what
// it takes to run.
var ErrMissing = errors.New("not run")

// python returns a Python that has boltons.
var python = sync.OnceValues(func() (string, error) {
	for _, name := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(name, "-c", "import boltons.socketutils").Run() == nil {
			return name, nil
		}
	}
	return "", fmt.Errorf("%w: no python3 with boltons.socketutils was found; Debian has it in the package python3-boltons", ErrMissing)
})

// boltonsSide is receiving for boltons, in a process of Python.
func boltonsSide(name string, wire func(size int) []byte, method string) Side {
	const less = "the same semantics, in Python"
	return Side{Name: name, Less: less, elsewhere: true, Start: func(size int, seen func([]byte)) (*Session, error) {
		interpreter, err := python()
		if err != nil {
			return nil, err
		}
		src, err := send(TCP, wire(size))
		if err != nil {
			return nil, err
		}
		args := []string{"-c", boltonsScript, src.addr(), method, strconv.Itoa(size)}
		if seen != nil {
			args = append(args, "check")
		}
		cmd := exec.Command(interpreter, args...)
		cmd.Stderr = os.Stderr
		c, err := startChild(cmd)
		if err != nil {
			src.close()
			return nil, err
		}
		do := func(n int) (took time.Duration, err error) {
			_, failed := src.during(n, func() error {
				took, err = c.do(n, seen)
				return err
			})
			return took, failed
		}
		return &Session{do: do, close: func() {
			c.close()
			src.close()
		}}, nil
	}}
}
