package bench

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuietlyGivesStandardErrorBack(t *testing.T) {
	inode := func() uint64 {
		var s syscall.Stat_t
		require.NoError(t, syscall.Fstat(syscall.Stderr, &s))
		return s.Ino
	}
	null := func() uint64 {
		var s syscall.Stat_t
		require.NoError(t, syscall.Stat("/dev/null", &s))
		return s.Ino
	}()
	before, during := inode(), uint64(0)
	quietly(func() { during = inode() })
	require.Equal(t, null, during)
	require.Equal(t, before, inode())
}
