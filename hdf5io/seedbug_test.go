//go:build seedbug

package hdf5io

import (
	"os"
	"os/exec"
	"testing"
)

// TestSeededFaultsAreFound runs the campaign that must find each seeded fault, in
// a process of its own, and wants it to fail; without a fault they pass.
func TestSeededFaultsAreFound(t *testing.T) {
	if os.Getenv("CIDSTORE_SEEDBUG") != "" {
		t.Skip("this is the process with the fault")
	}
	for fault, campaign := range map[string]string{
		"no-sync-before-slot":  "TestCrashAtEveryWrite",
		"no-sync-after-slot":   "TestCrashAtEveryWrite",
		"reuse-too-early":      "TestEitherSlotLost",
		"pin-ignored":          "TestPinnedViewStays",
		"sync-error-swallowed": "TestSyncFails",
		"crc-skipped":          "TestBitFlips",
	} {
		for _, seeded := range []string{"none", fault} {
			cmd := exec.Command(os.Args[0], "-test.short", "-test.run", "^"+campaign+"$")
			cmd.Env = append(os.Environ(), "CIDSTORE_SEEDBUG="+seeded)
			out, err := cmd.CombinedOutput()
			if found := err != nil; found != (seeded == fault) {
				t.Errorf("%s with fault %s: %v\n%s", campaign, seeded, err, out)
			}
		}
	}
}
