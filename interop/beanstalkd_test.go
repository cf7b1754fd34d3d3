package interop_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bufsock/bufsock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startBeanstalkd starts a server whose largest job has 60,000 bytes.
func startBeanstalkd(t *testing.T) (addr string) {
	t.Helper()
	beanstalkd, port := program(t, "beanstalkd", "beanstalkd"), strconv.Itoa(freePort(t))
	p := start(t, beanstalkd, "-l", "127.0.0.1", "-p", port, "-z", "60000")
	p.waitListen(t, "tcp", "127.0.0.1:"+port)
	return "127.0.0.1:" + port
}

// putJob queues a job.
func putJob(s *bufsock.BufferedSocket, data string) error {
	if _, err := s.Send(fmt.Appendf(nil, "put 0 0 60 %d\r\n%s\r\n", len(data), data)); err != nil {
		return err
	}
	line, err := s.RecvUntil(crlf)
	if err == nil && !strings.HasPrefix(string(line), "INSERTED ") {
		err = fmt.Errorf("not queued: %q", line)
	}
	return err
}

// A job is what beanstalkd answers to reserve.
type job struct{ id, data string }

// read is for RecvFunc.
func (j *job) read(m *bufsock.Message) error {
	line, err := m.Until(crlf)
	if err != nil {
		return err
	}
	words := strings.Fields(string(line))
	if len(words) != 3 || words[0] != "RESERVED" {
		return fmt.Errorf("no job: %.40q", line)
	}
	j.id = words[1]
	j.data, err = readSized(m, line)
	return err
}

func TestBeanstalkdJobs(t *testing.T) {
	t.Parallel()
	addr := startBeanstalkd(t)
	jobs := make([]string, 0, 200)
	queue := dial(t, addr)
	for i := range cap(jobs) {
		jobs = append(jobs, strconv.Itoa(i)+awkward[i%len(awkward)])
		require.NoError(t, putJob(queue, jobs[i]))
	}
	r := startRelay(t, addr, inPieces(50))
	s := r.dial(t)
	_, err := s.Send([]byte(strings.Repeat("reserve\r\n", len(jobs)+1)))
	require.NoError(t, err)
	var got job
	for i, want := range jobs {
		require.NoError(t, r.recvFunc(s, got.read), "job %d", i)
		require.Equal(t, want, got.data)
	}
	assert.Greater(t, r.timeouts, len(jobs)/2)

	// One more has been asked for, and is late.
	_, ok := s.RecvFunc(got.read, bufsock.WithTimeout(30*time.Millisecond)).(*bufsock.TimeoutError)
	require.True(t, ok)
	require.NoError(t, putJob(queue, "late"))
	require.NoError(t, r.recvFunc(s, got.read))
	require.Equal(t, "late", got.data)
	_, err = s.Send([]byte("delete " + got.id + "\r\n"))
	require.NoError(t, err)
	var line []byte
	require.NoError(t, r.insist(func(timeout bufsock.Option) (err error) {
		line, err = s.RecvUntil(crlf, timeout)
		return err
	}))
	require.Equal(t, "DELETED", string(line))
}

func TestBeanstalkdTraps(t *testing.T) {
	t.Parallel()
	addr := startBeanstalkd(t)
	for _, x := range []exchange{
		{name: "224 bytes", send: "put 0 0 10 " + strings.Repeat("0", 210) + "5\r\nhello\r\n", want: "INSERTED 1\r\n"},
		{name: "longer", send: strings.Repeat("x", 300) + "\r\n", want: "BAD_FORMAT\r\n"},
		{name: "plus", send: "put 0 0 10 +5\r\nhello\r\n", want: "BAD_FORMAT\r\nUNKNOWN_COMMAND\r\n"},
		{name: "a space behind", send: "put 0 0 10 5 \r\nhello\r\n", want: "BAD_FORMAT\r\nUNKNOWN_COMMAND\r\n"},
		{name: "a zero in front", send: "put 0 0 10 05\r\nhello\r\n", want: "INSERTED 2\r\n"},
		{name: "an empty line", send: "\r\n", want: "UNKNOWN_COMMAND\r\n"},
		{name: "a command in the data", send: "put 0 0 10 5\r\nhelloXXlist-tube-used\r\n", want: "EXPECTED_CRLF\r\nUSING default\r\n"},
		{name: "behind quit", send: "list-tube-used\r\nquit\r\nlist-tube-used\r\n", want: "USING default\r\n", ends: true},
	} {
		x.check(t, dial(t, addr), "list-tube-used\r\n", "USING default\r\n")
	}
}

// A job too large is answered when all of it has come.
func TestBeanstalkdJobTooLarge(t *testing.T) {
	t.Parallel()
	s := dial(t, startBeanstalkd(t))
	_, err := s.Send([]byte("put 0 0 10 60001\r\n"))
	require.NoError(t, err)
	requireSilence(t, s)
	exchange{name: "all", send: strings.Repeat("x", 60_001) + "\r\n", want: "JOB_TOO_BIG\r\n"}.check(t, s,
		"list-tube-used\r\n", "USING default\r\n")

	// LF alone ends no line.
	_, err = s.Send([]byte("list-tube-used\n"))
	require.NoError(t, err)
	requireSilence(t, s)
}
