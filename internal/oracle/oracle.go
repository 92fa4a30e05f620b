// Package oracle finds the foreign programs with which tests compare CIDStore's
// files: h5py, the HDF5 tools, h5wasm and qemu. It runs them with a time limit. It
// is only for tests.
//
// If a program is missing, the test that asks for it is skipped, with one line that
// says so. If the environment has CIDSTORE_REQUIRE_ORACLES=1, as continuous
// integration does, the test fails. scripts/oracles installs all of them.
package oracle

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// requireVariable makes a missing oracle a failure when it is 1.
const requireVariable = "CIDSTORE_REQUIRE_ORACLES"

// probeTime is the time limit for asking a program whether it works. It is long,
// because the first import of h5py on a busy machine reads a hundred files.
const probeTime = 60 * time.Second

// interpreters remembers what Python has found, by module list, because a probe
// takes most of a second, and many tests of one process ask.
var interpreters sync.Map

// H5py returns a Python interpreter that can import h5py and numpy.
func H5py(t testing.TB) string {
	t.Helper()
	return Python(t, "h5py", "numpy")
}

// Python returns an interpreter that can import all of modules. The distribution's
// modules belong to /usr/bin/python3, which need not be the first on PATH.
func Python(t testing.TB, modules ...string) string {
	t.Helper()
	wanted := strings.Join(modules, ", ")
	if path, ok := interpreters.Load(wanted); ok {
		return path.(string)
	}
	for _, name := range []string{"python3", "/usr/bin/python3", "python"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		if _, _, err := run(probeTime, path, "-c", "import "+wanted); err == nil {
			interpreters.Store(wanted, path)
			return path
		}
	}
	missing(t, "python3 with "+wanted)
	return ""
}

// H5dump returns the path of the HDF5 tool h5dump.
func H5dump(t testing.TB) string { t.Helper(); return program(t, "h5dump") }

// H5repack returns the path of the HDF5 tool h5repack.
func H5repack(t testing.TB) string { t.Helper(); return program(t, "h5repack") }

// H5diff returns the path of the HDF5 tool h5diff.
func H5diff(t testing.TB) string { t.Helper(); return program(t, "h5diff") }

// H5stat returns the path of the HDF5 tool h5stat.
func H5stat(t testing.TB) string { t.Helper(); return program(t, "h5stat") }

// H5ls returns the path of the HDF5 tool h5ls.
func H5ls(t testing.TB) string { t.Helper(); return program(t, "h5ls") }

// Qemu returns the path of the user-mode emulator for an architecture, as qemu
// names it: s390x, arm, aarch64, riscv64, i386.
func Qemu(t testing.TB, arch string) string {
	t.Helper()
	return program(t, "qemu-"+arch+"-static", "qemu-"+arch)
}

// H5wasm returns node, and the absolute path of the h5wasm module, which a script
// can import.
func H5wasm(t testing.TB) (node, module string) {
	t.Helper()
	node = program(t, "node", "nodejs")
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	module = filepath.Join(root, "node_modules", "h5wasm", "dist", "node", "hdf5_hl.js")
	if _, err := os.Stat(module); err != nil {
		missing(t, "the npm package h5wasm")
	}
	return node, module
}

// Root returns the folder of go.mod, above the folder that the test runs in.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above %s", start)
		}
	}
}

// Run runs a program to its end, for at most timeout, with an empty standard input.
// The error is nil if the program ended with code 0; otherwise it has the code, or
// says that the time was over.
func Run(t testing.TB, timeout time.Duration, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return run(timeout, name, args...)
}

func run(timeout time.Duration, name string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var out, errout bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errout
	cmd.Env = slices.Concat(os.Environ(), []string{"LC_ALL=C", "PYTHONDONTWRITEBYTECODE=1"})
	cmd.WaitDelay = 5 * time.Second // a grandchild that keeps the pipes open
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: no end after %s: %w", filepath.Base(name), timeout, ctx.Err())
	} else if err != nil {
		err = fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return out.String(), errout.String(), err
}

// program returns the path of the first of names that PATH has.
func program(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	missing(t, names[0])
	return ""
}

// missing skips the test, or fails it if every oracle is required.
func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(requireVariable) == "1" {
		t.Fatalf("oracle missing: %s; %s=1 does not allow skipping (scripts/oracles installs it)", what, requireVariable)
	}
	t.Skipf("oracle missing: %s (scripts/oracles installs it)", what)
}
