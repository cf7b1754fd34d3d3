package bench

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAttribute(t *testing.T) {
	const (
		own  = "github.com/bufsock/bufsock.(*half).unlock"
		loop = "github.com/bufsock/bufsock/bench.receiveUntilOn.func1"
	)
	tests := map[string]struct {
		want  Part
		stack []string
	}{
		"a lock that was inlined":                          {Locks, []string{"internal/sync.(*Mutex).Lock", "sync.(*Mutex).Lock", own, loop}},
		"an atomic operation of bufsock":                   {Locks, []string{"sync/atomic.(*Int32).Store", own, loop}},
		"an atomic operation of a peer":                    {Locks, []string{"sync/atomic.(*Int32).Store", "github.com/cloudwego/netpoll.(*locker).lock"}},
		"an atomic operation of a lock":                    {Locks, []string{"sync/atomic.CompareAndSwapInt32", "internal/sync.(*Mutex).Lock", own}},
		"an atomic operation of the pool is the pool's":    {Pool, []string{"sync/atomic.(*Uint64).CompareAndSwap", "sync.(*poolDequeue).popHead", "sync.(*Pool).Get", own}},
		"an atomic operation of the runtime is its part's": {Allocation, []string{"internal/runtime/atomic.(*Uint32).Load", "runtime.mallocgc", own}},
		"an atomic operation of package net is its part's": {Waiting, []string{"sync/atomic.CompareAndSwapUint64", "internal/poll.(*fdMutex).rwlock", own}},
		"the pool":                                {Pool, []string{"sync.(*Pool).Get", own}},
		"the clock":                               {ClockReads, []string{"runtime.nanotime1", "runtime.nanotime", "time.runtimeNano", "time.Since", own}},
		"a kernel's clock":                        {ClockReads, []string{"runtime._VDSO", "runtime.walltime"}},
		"a system call":                           {Kernel, []string{"internal/runtime/syscall/linux.Syscall6", "syscall.RawSyscall6", "syscall.write", "internal/poll.(*FD).Write", loop}},
		"what the runtime does around it":         {Kernel, []string{"runtime.casgstatus", "runtime.exitsyscall", "syscall.Syscall", own}},
		"a system call of the poller":             {Waiting, []string{"internal/runtime/syscall/linux.Syscall6", "internal/runtime/syscall/linux.EpollWait", "runtime.netpoll", "runtime.findRunnable"}},
		"package net":                             {Waiting, []string{"net.(*conn).Read", "bufio.(*Reader).fill", loop}},
		"the scheduler, whatever it calls":        {Waiting, []string{"runtime.nanotime1", "runtime.findRunnable", "runtime.schedule", "runtime.park_m"}},
		"a deadline, with all that it takes":      {Deadlines, []string{"runtime.nanotime1", "time.Until", "internal/poll.setDeadlineImpl", "net.(*conn).SetReadDeadline", loop}},
		"a timer, with the locks of the runtime":  {Deadlines, []string{"runtime.lock2", "runtime.(*timer).modify", "time.(*Timer).Reset", own}},
		"copying":                                 {Copying, []string{"runtime.memmove", own}},
		"searching, in assembler":                 {Searching, []string{"indexbytebody", "internal/bytealg.IndexByte", "bytes.IndexByte", own}},
		"comparing":                               {Searching, []string{"memeqbody", own}},
		"allocating":                              {Allocation, []string{"runtime.mallocgcSmallNoscan", "runtime.mallocgc", own}},
		"a collection, with the locks":            {Allocation, []string{"runtime.procyieldAsm", "runtime.lock2", "runtime.gcDrain", "runtime.gcBgMarkWorker"}},
		"crypto/tls":                              {Crypto, []string{"crypto/internal/fips140/aes/gcm.gcmAesDec", "crypto/tls.(*Conn).Read", own}},
		"defer":                                   {Defers, []string{"runtime.(*_panic).nextDefer", "runtime.deferreturn", own}},
		"bufsock":                                 {OwnCode, []string{own, loop}},
		"a helper of the runtime is its caller's": {OwnCode, []string{"runtime.typedmemmove", own, loop}},
		"the benchmark, which is no part of it":   {LoopCode, []string{loop}},
		"bufio":                                   {PeerCode, []string{"bufio.(*Reader).ReadSlice", loop}},
		"textproto":                               {PeerCode, []string{"net/textproto.trim", loop}},
		"another package":                         {Rest, []string{"strconv.Atoi", loop}},
		"the stack of the scheduler":              {Waiting, []string{"runtime.procyield"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			part, _ := attribute(tt.stack)
			require.Equal(t, tt.want, part)
		})
	}
}

// What the runtime does for a function counts with that function.
func TestAttributeNamesTheFunction(t *testing.T) {
	_, function := attribute([]string{"runtime.typedmemmove", "github.com/bufsock/bufsock.newLink", "github.com/bufsock/bufsock.Dial"})
	require.Equal(t, "github.com/bufsock/bufsock.newLink", function)
}
