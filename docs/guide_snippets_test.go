package docs_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/bufsock/bufsock"
)

// Each example talks to the server of its name. What follows its snippet line
// is a Go block of protocols.md, to the letter.

// guideServers say what the server of each snippet does: its answers are as the
// real programs sent them.
var guideServers = map[string][]turn{
	"line":     {{say: ":irc.example.test NOTICE * :hello\r\nPING :1\n"}, {hangUp: true}},
	"list":     {{say: "BEGIN LIST UPS\nUPS lab \"Lab\"\nUPS hall \"Hall\"\nEND LIST UPS\n"}},
	"head":     {{say: "ZBXD\x01\x04\x00\x00\x00\x00\x00\x00\x0023.5"}},
	"value":    {{say: "VALUE key 0 7\r\na\r\nb\x00\xffc\r\n"}},
	"nested":   {{say: "*3\r\n$3\r\na\r\n\r\n*1\r\n:7\r\n$-1\r\n"}},
	"endings":  {{say: "7 <13>a\nb<13>c\n6 <13>de"}, {hangUp: true}},
	"silence":  {{hear: "+nosuch\n"}, {hear: ";f\n", say: "get_freq:;Frequency: 145000000;RPRT 0\n"}},
	"untilEnd": {{hear: "status\n", say: "up\ndown\n"}, {hangUp: true}},
}

// wrap makes the socket that the snippets leave out.
func wrap(name string) (s *bufsock.BufferedSocket, end func()) {
	conn, end := connect(name)
	return bufsock.NewBufferedSocket(conn, bufsock.WithMaxSize(4<<10)), end
}

func Example_line() {
	s, end := wrap("line")
	defer end()
	// snippet:line
	for line, err := range s.Messages([]byte("\n")) {
		check(err)
		fmt.Printf("%q\n", strings.TrimSuffix(string(line), "\r"))
	}
	// Output:
	// ":irc.example.test NOTICE * :hello"
	// "PING :1"
}

func Example_list() {
	s, end := wrap("list")
	defer end()
	// snippet:list
	var list []string
	check(s.RecvFunc(func(m *bufsock.Message) error {
		for list = nil; ; { // nil, because it may run again
			line, err := m.Until([]byte("\n"))
			if err != nil || string(line) == "END LIST UPS" {
				return err
			}
			list = append(list, string(line))
		}
	}))
	fmt.Printf("%q\n", list[1:])
	// Output: ["UPS lab \"Lab\"" "UPS hall \"Hall\""]
}

func Example_head() {
	s, end := wrap("head")
	defer end()
	// snippet:head
	var value string
	check(s.RecvFunc(func(m *bufsock.Message) error {
		head, err := m.Next(13)
		if err != nil {
			return err
		}
		body, err := m.Next(int(binary.LittleEndian.Uint32(head[5:])))
		value = string(body)
		return err
	}, bufsock.WithMaxSize(1<<20)))
	fmt.Println(value)
	// Output: 23.5
}

func Example_value() {
	s, end := wrap("value")
	defer end()
	// snippet:value
	var value string
	check(s.RecvFunc(func(m *bufsock.Message) error {
		line, err := m.Until([]byte("\r\n"))
		if err != nil {
			return err
		}
		words := strings.Fields(string(line))
		size, err := strconv.ParseUint(words[len(words)-1], 10, 30)
		if err != nil {
			return err
		}
		data, err := m.Next(int(size) + len("\r\n"))
		value = strings.TrimSuffix(string(data), "\r\n")
		return err
	}, bufsock.WithMaxSize(1<<20)))
	fmt.Printf("%q\n", value)
	// Output: "a\r\nb\x00\xffc"
}

func Example_nested() {
	s, end := wrap("nested")
	defer end()
	// snippet:nested
	var read func(m *bufsock.Message, depth int) (any, error)
	read = func(m *bufsock.Message, depth int) (any, error) {
		line, err := m.Until([]byte("\r\n"))
		if err != nil {
			return nil, err
		}
		if len(line) == 0 || depth > 32 {
			return nil, fmt.Errorf("no value: %.20q at depth %d", line, depth)
		}
		n, _ := strconv.Atoi(string(line[1:]))
		switch {
		case line[0] == '$' && n >= 0:
			data, err := m.Next(n + len("\r\n"))
			return strings.TrimSuffix(string(data), "\r\n"), err
		case line[0] == '*' && n >= 0:
			list := []any{}
			for range n {
				value, err := read(m, depth+1)
				if err != nil {
					return nil, err
				}
				list = append(list, value)
			}
			return list, nil
		}
		return string(line), nil
	}
	var value any
	check(s.RecvFunc(func(m *bufsock.Message) (err error) {
		value, err = read(m, 0)
		return err
	}))
	fmt.Printf("%q\n", value)
	// Output: ["a\r\n" [":7"] "$-1"]
}

func Example_endings() {
	s, end := wrap("endings")
	defer end()
	// snippet:endings
	var frame string
	read := func(m *bufsock.Message) error {
		first, err := m.Peek(1)
		if err != nil {
			return err
		}
		mark := []byte("\n")
		if '1' <= first[0] && first[0] <= '9' {
			mark = []byte(" ")
		}
		part, err := m.Until(mark)
		if err == nil && mark[0] == ' ' {
			var size uint64
			if size, err = strconv.ParseUint(string(part), 10, 30); err == nil {
				part, err = m.Next(int(size))
			}
		}
		frame = string(part)
		return err
	}
	err := s.RecvFunc(read)
	for ; err == nil; err = s.RecvFunc(read) {
		fmt.Printf("%q\n", frame)
	}
	if !errors.Is(err, io.EOF) { // the stream has ended inside a frame, or worse
		check(err)
	}
	// Output:
	// "<13>a\nb"
	// "<13>c"
	// "<13>de"
}

func Example_silence() {
	s, end := wrap("silence")
	defer end()
	// snippet:silence
	for _, command := range []string{"+nosuch\n", ";f\n"} {
		_, err := s.Send([]byte(command))
		check(err)
		answer, err := s.RecvUntil([]byte("\n"), bufsock.WithTimeout(200*time.Millisecond))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			fmt.Println("no answer")
			continue
		}
		check(err)
		fmt.Println(string(answer))
	}
	// Output:
	// no answer
	// get_freq:;Frequency: 145000000;RPRT 0
}

func Example_untilEnd() {
	s, end := wrap("untilEnd")
	defer end()
	// snippet:untilEnd
	_, err := s.Send([]byte("status\n"))
	check(err)
	answer, err := s.RecvClose(bufsock.WithMaxSize(1 << 20))
	check(err)
	fmt.Printf("%q\n", answer)
	// Output: "up\ndown\n"
}
