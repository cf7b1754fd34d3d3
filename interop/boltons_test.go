package interop_test

import (
	"os/exec"
	"testing"
)

// pythonWithBoltons returns a Python that has boltons. The first one on the
// PATH may be another than that of the system, which has its packages.
func pythonWithBoltons(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(name, "boltons.py", "check").Run() == nil {
			return name
		}
	}
	return program(t, "python3 with boltons", "python3-boltons")
}
