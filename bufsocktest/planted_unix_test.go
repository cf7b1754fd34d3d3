//go:build unix

package bufsocktest_test

import (
	"os"
	"os/exec"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The printed line is one for a shell.
func TestLineRepeats(t *testing.T) {
	output, failed := runPlanted(t, "a cut stream is whole", "^TestPlanted$")
	line := regexp.MustCompile(`go test -run .*`).FindString(output)
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), plantedEnv+"=a cut stream is whole")
	again, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, failed[:1], subtests(string(again), "--- FAIL:"), "%s", again)
}
