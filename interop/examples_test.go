package interop_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What somebody sees who starts an example with the wrong flags.
func TestExamplesSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	require.NoError(t, buildExamples())
	dir := t.TempDir()
	table := writeFile(t, dir, "table", "alice user\n")
	broken := writeFile(t, dir, "broken", "alice user\nbob\n")
	taken := startExample(t, "scgi", "-listen", "127.0.0.1:0").addr
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{0, "-listen address", []string{"socketmap", "-h"}},
		{0, "-listen address", []string{"scgi", "-h"}},
		{0, "-listen address", []string{"proxytls", "-h"}},
		{0, "-listen address", []string{"syslog", "-h"}},
		{0, "-listen address", []string{"lineserver", "-h"}},
		{0, "-addr address", []string{"instrument", "-h"}},
		{2, "not defined: -x", []string{"proxytls", "-x"}},
		{1, `unexpected argument "x"`, []string{"socketmap", "x"}},
		{1, `unexpected argument "x"`, []string{"scgi", "x"}},
		{1, `unexpected argument "x"`, []string{"proxytls", "x"}},
		{1, `unexpected argument "x"`, []string{"syslog", "x"}},
		{1, `unexpected argument "x"`, []string{"lineserver", "x"}},
		{1, "-addr or -demo", []string{"instrument"}},
		{1, "-addr or -demo", []string{"instrument", "-demo", "-addr", taken}},
		{1, "expected commands", []string{"instrument", "-addr", taken}},
		{1, "a limit must be", []string{"syslog", "-max-message", "0"}},
		{1, "a limit must be", []string{"lineserver", "-idle", "-1s"}},
		{1, "none: no such file", []string{"syslog", "-dir", filepath.Join(dir, "none")}},
		{1, "address already in use", []string{"syslog", "-dir", dir, "-listen", taken}},
		{1, "address already in use", []string{"lineserver", "-listen", taken}},
		{1, "address already in use", []string{"socketmap", "-file", table, "-listen", "tcp:" + taken}},
		{1, "address already in use", []string{"scgi", "-listen", taken}},
		{1, "address already in use", []string{"proxytls", "-listen", taken}},
		{1, "no-table: no such file", []string{"socketmap", "-file", filepath.Join(dir, "no-table")}},
		{1, `a value, found "bob"`, []string{"socketmap", "-file", broken}},
		{1, "unknown network", []string{"socketmap", "-file", table, "-listen", taken}},
	} {
		got := runProgram(t, "", filepath.Join(examplesDir, c.args[0]), c.args[1:]...)
		assert.Equal(t, c.code, got.code, "%q", c.args)
		assert.Contains(t, got.stderr, c.want, "%q", c.args)
		assert.Empty(t, got.stdout, "%q", c.args)
	}
}
