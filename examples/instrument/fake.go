package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
)

// demoCommands are what a fake instrument understands, and one that it does not.
var demoCommands = []string{"*IDN?", "CURV?", "CURV:EMPTY?", "SCR?", "MEAS:VOLT?", "DISP:OFF", "NOSUCH"}

// serveFake is an instrument at each connection. A measurement takes a while.
func serveFake(l net.Listener, measuring time.Duration) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go fake(conn, measuring)
	}
}

// fake answers until the client ends.
func fake(conn net.Conn, measuring time.Duration) {
	s := bufsock.NewBufferedSocket(conn, bufsock.WithTimeout(bufsock.NoTimeout), bufsock.WithMaxSize(1<<10))
	defer s.Close()
	var troubles []string
	for line, err := range s.Messages(lineEnd) {
		if err != nil {
			return
		}
		var pieces []string
		switch command := strings.TrimSuffix(string(line), "\r"); command {
		case "*IDN?":
			pieces = []string{"Example,Fake 1000,0,1.0\r\n"}
		case "CURV?": // any bytes, line ends too; sent as an instrument does that samples meanwhile
			curve := curve()
			pieces = []string{"#4", fmt.Sprintf("%04d", len(curve)), curve[:100], curve[100:], "\n"}
		case "CURV:EMPTY?":
			pieces = []string{"#10\n"}
		case "SCR?":
			pieces = []string{"#0P4 2 1 \x80\n"}
		case "MEAS:VOLT?":
			pieces = []string{"+1.234", "E+00\n"}
			time.Sleep(measuring)
		case "SYST:ERR?":
			trouble := `0,"No error"`
			if len(troubles) > 0 {
				trouble, troubles = troubles[0], troubles[1:]
			}
			pieces = []string{trouble + "\n"}
		case "DISP:OFF":
		default: // no answer, but something to ask for
			troubles = append(troubles, `-113,"Undefined header"`)
		}
		for _, piece := range pieces {
			if _, err := s.Send([]byte(piece)); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// curve returns 1024 samples of a byte.
func curve() string {
	var b strings.Builder
	for n := range 1024 {
		b.WriteByte(byte(n))
	}
	return b.String()
}
