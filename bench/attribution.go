package bench

import "strings"

// A Part is what time goes into: a group of functions.
type Part string

// The parts. A sample belongs to that of the innermost function that has one.
const (
	Locks      Part = "locks and atomic operations"
	ClockReads Part = "the clock"
	Kernel     Part = "system calls, and the kernel in them"
	Pool       Part = "sync.Pool"
	Deadlines  Part = "deadlines of the connection, timers"
	Waiting    Part = "package net, the poller, the scheduler"
	Copying    Part = "copying and clearing memory"
	Searching  Part = "searching and comparing bytes"
	Allocation Part = "allocation and garbage collection"
	Crypto     Part = "crypto/tls"
	Defers     Part = "defer"
	OwnCode    Part = "bufsock's own code"
	PeerCode   Part = "own code of bufio and other peers"
	LoopCode   Part = "the loop of the benchmark"
	OtherEnd   Part = "the other end of the connection"
	Rest       Part = "the rest"
)

const (
	bufsockPackage = "github.com/bufsock/bufsock."
	benchPackage   = "github.com/bufsock/bufsock/bench."
)

// A rule gives functions to a part, by how their names begin.
type rule struct {
	part     Part
	prefixes []string
}

// Whole are the functions that also have the time of all that they call.
var whole = []rule{
	{Deadlines, []string{
		"internal/poll.setDeadlineImpl", "internal/poll.runtime_pollSetDeadline",
		"net.(*conn).Set", "time.(*Timer).", "time.AfterFunc", "time.NewTimer",
	}},
	{Allocation, []string{"runtime.gcBgMarkWorker", "runtime.gcStart", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcAssist"}},
	{Waiting, []string{"runtime.netpoll", "runtime.schedule", "runtime.findRunnable", "runtime.park_m", "runtime.sysmon"}},
}

// Rules are for all others. The first that matches counts.
var rules = []rule{
	{Pool, []string{"sync.(*Pool)", "sync.(*pool", "sync.indexLocal", "sync.runtime_proc", "runtime.procPin", "runtime.procUnpin"}},
	{Locks, []string{"sync.", "internal/sync.", "sync/atomic.", "internal/runtime/atomic."}},
	{Deadlines, []string{"time.newTimer", "time.resetTimer", "time.stopTimer", "runtime.(*timer", "runtime.resetTimer", "runtime.stopTimer", "runtime.newTimer"}},
	{ClockReads, []string{"time.", "runtime.nanotime", "runtime.walltime", "runtime.vdso", "runtime._VDSO"}},
	{Kernel, []string{
		"syscall.", "internal/runtime/syscall", "internal/syscall/", "runtime/internal/syscall",
		"runtime.entersyscall", "runtime.reentersyscall", "runtime.exitsyscall",
	}},
	{Waiting, []string{
		"internal/poll.", "net.", "runtime.gopark", "runtime.goready", "runtime.ready", "runtime.mcall", "runtime.execute",
		"runtime.gogo", "runtime.wakep", "runtime.startm", "runtime.stopm", "runtime.mPark", "runtime.note", "runtime.futex",
		"runtime.usleep", "runtime.osyield", "runtime.runq", "runtime.chan", "runtime.selectgo", "runtime.send", "runtime.recv",
		"runtime.sema", "runtime.mstart", "runtime.goexit0", "runtime.handoffp", "runtime.retake",
	}},
	{Copying, []string{"runtime.memmove", "runtime.memclr", "runtime.duffcopy", "runtime.duffzero"}},
	{Searching, []string{
		"internal/bytealg.", "bytes.", "strings.", "runtime.memequal", "indexbody", "indexbytebody", "memeqbody", "cmpbody", "countbody",
	}},
	{Allocation, []string{
		"runtime.malloc", "runtime.newobject", "runtime.makeslice", "runtime.growslice", "runtime.nextFree", "runtime.(*mcache)",
		"runtime.(*mcentral)", "runtime.(*mheap)", "runtime.(*mspan)", "runtime.gc", "runtime.(*gc", "runtime.scan", "runtime.grey",
		"runtime.sweep", "runtime.heapSetType", "runtime.wb", "runtime.(*wb", "runtime.bulkBarrier", "runtime.publicationBarrier",
		"runtime.deductAssistCredit", "runtime.postMalloc", "runtime.sys", "runtime.madvise", "runtime.mmap", "internal/runtime/gc",
	}},
	{Crypto, []string{"crypto/", "vendor/golang.org/x/crypto"}},
	{Defers, []string{"runtime.defer", "runtime.(*_panic)", "runtime.gopanic", "runtime.gorecover"}},
	{OwnCode, []string{bufsockPackage}},
	{LoopCode, []string{benchPackage}},
	{PeerCode, []string{"bufio.", "io.", "net/textproto.", "testing/iotest.", "github.com/"}},
}

// find returns the part of a function.
func find(rules []rule, function string) (Part, bool) {
	for _, r := range rules {
		for _, prefix := range r.prefixes {
			if strings.HasPrefix(function, prefix) {
				return r.part, true
			}
		}
	}
	return "", false
}

// attribute returns the part that a sample belongs to, given its functions from
// the innermost on, and the function that has one. What the runtime does for its
// callers and has no part is theirs.
func attribute(stack []string) (part Part, function string) {
	for _, function := range stack {
		if part, ok := find(whole, function); ok {
			return part, function
		}
	}
	for i, function := range stack {
		if isAtomic(function) && i+1 < len(stack) && hasOwnAtomics(stack[i+1]) {
			continue
		}
		if part, ok := find(rules, function); ok {
			return part, function
		}
		if !isRuntime(function) {
			return Rest, function
		}
	}
	return Waiting, "" // the scheduler's own stack
}

func isAtomic(function string) bool {
	return strings.HasPrefix(function, "sync/atomic.") || strings.HasPrefix(function, "internal/runtime/atomic.")
}

// hasOwnAtomics reports whether the atomic operations of a function are a
// detail of its part.
func hasOwnAtomics(function string) bool {
	part, ok := find(rules, function)
	return ok && part != OwnCode && part != LoopCode && part != PeerCode || isRuntime(function)
}

// isRuntime reports whether a function is of the runtime or below it. What is
// in assembler may have no package.
func isRuntime(function string) bool {
	return strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, "internal/") || !strings.Contains(function, ".")
}
