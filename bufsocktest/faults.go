package bufsocktest

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// Faults says what goes wrong on a [Conn], and how often: a field without a
// unit is a probability, from 0 for never to 1 for always, each time that the
// fault may occur. The zero Faults is a connection without faults.
//
// With probability 1 a fault makes a kind of connection that there is:
//
//	Faults{RefusedDeadlines: 1} // the channels of an SSH connection
//	Faults{DeafCloses: 1}       // some multiplexed streams
//	Faults{OddTimeouts: 1}      // some connections in memory
//	Faults{EndsWithData: 1}     // some decoders, and readers of tests
type Faults struct {
	// CutReads: a Read asks for fewer bytes than there is room for.
	CutReads float64
	// EmptyReads: a Read returns neither bytes nor an error.
	EmptyReads float64
	// ErrorsWithData: a Read returns an error that passes together with bytes:
	// ErrPassing, or a timeout.
	ErrorsWithData float64
	// EndsWithData: a Read goes on until its room is full or the connection
	// fails, and returns the bytes together with that error, such as io.EOF. It
	// waits for more than was asked for: not for a dialogue.
	EndsWithData float64

	// CutWrites: a Write becomes several, and the peer may read in between.
	CutWrites float64
	// ShortWrites: a Write stops on its way and returns io.ErrShortWrite.
	ShortWrites float64

	// Delays: a Read or Write begins later, by MaxDelay at most. No deadline
	// ends the delay; Close does.
	Delays   float64
	MaxDelay time.Duration // 0: a millisecond

	// EarlyTimeouts: a Read returns a timeout though no deadline has passed, and
	// so does a Write, on its way or at its end.
	EarlyTimeouts float64
	// LateDeadlines: a deadline that is set fires LateBy too late, those that
	// have passed when they are set included.
	LateDeadlines float64
	LateBy        time.Duration // 0: a millisecond
	// IgnoredDeadlines: a deadline that is set, or lifted, takes effect only
	// after IgnoredFor. Until then the one before holds.
	IgnoredDeadlines float64
	IgnoredFor       time.Duration // 0: a millisecond
	// RefusedDeadlines: a deadline is not set, or lifted, but refused with an
	// error that matches os.ErrNoDeadline.
	RefusedDeadlines float64
	// OddTimeouts: the error of a timeout is no net.Error: it has a method
	// Timeout and nothing else, or it wraps os.ErrDeadlineExceeded in an error
	// without methods.
	OddTimeouts float64

	// HalfCloses: a Write closes the writing side instead, if that can be done,
	// and returns the error of a Write after that. The peer reads the end of the
	// stream.
	HalfCloses float64
	// DeafCloses: a Close does not end the calls that are blocked, which go on
	// until there is something for them, the peer ends, or a deadline. The
	// connection below is closed when the last of them has returned.
	DeafCloses float64

	// Resets: a Read or Write closes the connection, a TCP connection with a
	// reset, and returns ErrReset, as do all that follow.
	Resets float64
	// ForgottenResets: a reset that is reported once, by the Read or Write that
	// meets it. Behind it a Read returns io.EOF and a Write a broken pipe: so
	// does TCP.
	ForgottenResets float64
	// ResetError is what resets are reported as; nil: a *net.OpError that
	// matches ErrReset. It is returned as it is.
	ResetError error
}

// Counts tells how often each of the Faults of the same name has occurred.
type Counts struct {
	CutReads, EmptyReads, ErrorsWithData, EndsWithData     int
	CutWrites, ShortWrites                                 int
	Delays, EarlyTimeouts, LateDeadlines, IgnoredDeadlines int
	RefusedDeadlines, OddTimeouts                          int
	HalfCloses, DeafCloses, Resets, ForgottenResets        int
}

// Total returns how many faults have occurred.
func (c Counts) Total() int {
	sum := 0
	for _, n := range countsOf(&c) {
		sum += *n
	}
	return sum
}

// ErrPassing is matched by an error after which the connection goes on.
var ErrPassing = errors.New("an error that passes")

// ErrReset is matched by the error that reports a reset. It is that of the
// operating system: syscall.ECONNRESET on Unix, WSAECONNRESET on Windows.
var ErrReset error = errReset

// A fault is one of the Faults.
type fault int

const (
	cutRead fault = iota
	emptyRead
	errorWithData
	endWithData
	cutWrite
	shortWrite
	delay
	earlyTimeout
	lateDeadline
	ignoredDeadline
	refusedDeadline
	oddTimeout
	halfClose
	deafClose
	reset
	forgottenReset

	numFaults
)

// chances returns the probabilities.
func (f *Faults) chances() [numFaults]float64 {
	return [...]float64{
		cutRead: f.CutReads, emptyRead: f.EmptyReads, errorWithData: f.ErrorsWithData, endWithData: f.EndsWithData,
		cutWrite: f.CutWrites, shortWrite: f.ShortWrites,
		delay: f.Delays, earlyTimeout: f.EarlyTimeouts, lateDeadline: f.LateDeadlines, ignoredDeadline: f.IgnoredDeadlines,
		refusedDeadline: f.RefusedDeadlines, oddTimeout: f.OddTimeouts,
		halfClose: f.HalfCloses, deafClose: f.DeafCloses, reset: f.Resets, forgottenReset: f.ForgottenResets,
	}
}

// countsOf returns where each fault is counted.
func countsOf(c *Counts) [numFaults]*int {
	return [...]*int{
		cutRead: &c.CutReads, emptyRead: &c.EmptyReads, errorWithData: &c.ErrorsWithData, endWithData: &c.EndsWithData,
		cutWrite: &c.CutWrites, shortWrite: &c.ShortWrites,
		delay: &c.Delays, earlyTimeout: &c.EarlyTimeouts, lateDeadline: &c.LateDeadlines, ignoredDeadline: &c.IgnoredDeadlines,
		refusedDeadline: &c.RefusedDeadlines, oddTimeout: &c.OddTimeouts,
		halfClose: &c.HalfCloses, deafClose: &c.DeafCloses, reset: &c.Resets, forgottenReset: &c.ForgottenResets,
	}
}

// complete checks the faults and gives durations to those that have none.
func (f *Faults) complete() {
	for _, p := range f.chances() {
		if !(p >= 0 && p <= 1) { // also if it is not a number
			panic(fmt.Sprintf("bufsocktest: expected probabilities from 0 to 1, got %v", p))
		}
	}
	for _, d := range []*time.Duration{&f.MaxDelay, &f.LateBy, &f.IgnoredFor} {
		if *d < 0 {
			panic(fmt.Sprintf("bufsocktest: expected durations of 0 or more, got %v", *d))
		}
		if *d == 0 {
			*d = time.Millisecond
		}
	}
}

// An oddTimeoutError tells that it is a timeout, but is no net.Error.
type oddTimeoutError struct{}

func (oddTimeoutError) Error() string { return "timeout" }
func (oddTimeoutError) Timeout() bool { return true }

// oddTimeouts are the errors of OddTimeouts.
var oddTimeouts = []error{oddTimeoutError{}, fmt.Errorf("no time left: %w", os.ErrDeadlineExceeded)}
