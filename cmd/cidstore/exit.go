package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// The exit codes are the program's interface to scripts.
const (
	exitOK       = 0
	exitNegative = 1
	exitUsage    = 2
	exitCorrupt  = 3 // tampered, truncated, edited, or not a store at all
	exitLocked   = 4
	exitIO       = 5 // any failure of reading or writing, including a full disk
	exitVersion  = 6
	exitSignal   = 128 // plus the number of the signal
)

// errNegative says that the answer to the question is no. It is not printed.
var errNegative = errors.New("negative answer")

// usageError says why a command line makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// arguments returns the rule that a command takes least to most arguments.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("arguments: %d, want %s", len(args), c.Parent().CommandPath()+" "+c.Use)
		}
		return nil
	}
}

// many stands for an upper limit where there is none.
const many = math.MaxInt

// stoppedError says which signal asked the program to stop.
type stoppedError struct{ signal os.Signal }

func (e stoppedError) Error() string { return "stopped by a signal: " + e.signal.String() }

// partialError is an error that ended an import after it had stored some pairs.
type partialError struct {
	error
	stored uint64
}

func (e partialError) Unwrap() error { return e.error }

func (e partialError) Error() string {
	if e.stored == 0 {
		return e.error.Error() + "; nothing is stored"
	}
	if isAny(e.error, cidstore.ErrReplaced, cidstore.ErrTruncated) {
		return fmt.Sprintf("%v; %s pairs had been stored in the file that is lost", e.error, grouped(e.stored))
	}
	return fmt.Sprintf("%v; %s pairs are stored, and the same import can be run again", e.error, grouped(e.stored))
}

// class says what a kind of error means to the user: an exit code, and what to do.
type class struct {
	is   func(error) bool
	code int
	hint string
}

// classes lists the classes. The first that fits counts, so the order matters where an
// error fits several: a full disk comes before all other failures of input and output.
var classes = []class{
	{isUsage, exitUsage, ""}, // run names the command's --help
	{isA[damagedError], exitCorrupt, ""},
	{isA[streamError], exitCorrupt, "send the backup again, or keep it in a file and look at that with cidstore check"},
	{isA[outputError], exitIO, "make room where standard output goes; the store is not harmed"},
	{is(cidstore.ErrBackupSeries), exitUsage, "name the full backup and then each increment, in the order in which they were made"},
	{is(cidstore.ErrWALKey), exitUsage, "give the secret that the store was made with, by --wal-key-file, or leave the flag out if there was none"},
	{isA[notAloneError], exitLocked, "wait until its readers have closed the file; shrink --estimate can run beside them"},
	{is(cidstore.ErrLocked), exitLocked, "wait until that process has ended, or only read"},
	{is(cidstore.ErrLegacy), exitVersion, ""}, // the text says what to do
	{is(cidstore.ErrWide), exitVersion, ""},   // the command says it
	{is(cidstore.ErrFormatVersion), exitVersion, "use the release of cidstore that wrote the file"},
	{is(cidstore.ErrSpacePinned), exitIO, "end the processes that are reading the file, then run this again"},
	{isNoSpace, exitIO, "free space on the disk, then run this again; what was acknowledged is kept"},
	{isA[unsavedError], exitCorrupt, "nothing was saved: copy the file again, or restore a backup"},
	{isA[seriesError], exitCorrupt, "copy the file again, or restore an earlier backup"},
	{is(cidstore.ErrTruncated), exitCorrupt, "the file was cut short: copy it again, restore a backup, or save what is left with cidstore repair STORE NEW --mode salvage"},
	{is(cidstore.ErrForeignEdit), exitCorrupt, "or restore a backup"},
	{is(cidstore.ErrTampered), exitCorrupt, "do not trust this file: restore a backup"},
	{is(cidstore.ErrHalfMade), exitCorrupt, ""}, // the text says what to do
	{isA[adviceError], exitCorrupt, ""},         // the text says what to do
	{is(cidstore.ErrNotCIDStore), exitCorrupt, "name a file that cidstore made, or a new one for import and put"},
	{isA[checkedError], exitCorrupt, "restore a backup, or save the rest with cidstore repair STORE NEW --mode salvage"},
	{is(cidstore.ErrCorrupt), exitCorrupt, "run cidstore check to see everything that is wrong; then restore a backup, or save the rest with cidstore repair STORE NEW --mode salvage"},
	{is(cidstore.ErrReplaced), exitIO, "run this again on the file that is there now"},
	{is(cidstore.ErrPoisoned), exitIO, "check the disk, then run this again"},
	{is(cidstore.ErrReadOnly), exitIO, "copy the file to where it can be written"},
	{is(cidstore.ErrIO), exitIO, "check the disk, then run cidstore check to see what else is damaged"},
	{is(fs.ErrExist), exitIO, "choose another name, or remove the file first"},
	{isNoStore, exitIO, "check the path; the folder must exist, and import and put make the file"},
	{is(fs.ErrNotExist), exitIO, "check the path"},
	{is(fs.ErrPermission), exitIO, "check the permissions of the file and its folder"},
	{is(syscall.EISDIR), exitIO, "name a file, not a folder"},
	{is(errNotRegular), exitIO, "name a file, not a device or a pipe"},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isA reports whether there is an error of type E in err.
func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// isAny reports whether an error is one of some kinds.
func isAny(err error, kinds ...error) bool {
	return slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) })
}

func isUsage(err error) bool { return isA[usageError](err) }

// isNoStore reports whether STORE or its folder, and not another file, does not exist.
func isNoStore(err error) bool { return isA[openError](err) && errors.Is(err, fs.ErrNotExist) }

func isNoSpace(err error) bool {
	return isAny(err, cidstore.ErrNoSpace, syscall.ENOSPC)
}

// classOf returns the class of an error. Its hint is empty if none is known.
func classOf(err error) class {
	for _, c := range classes {
		if c.is(err) {
			return c
		}
	}
	return class{code: exitIO}
}

// exitCode returns the exit code for the error of a command. A later failure, such as
// one of Close, counts more than the signal that stopped the command.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if partial, ok := err.(partialError); ok {
		err = partial.error
	}
	if stopped, ok := err.(stoppedError); ok {
		return exitSignal + int(stopped.signal.(syscall.Signal)) // as all signals of this program are
	}
	if err == errNegative {
		return exitNegative
	}
	return classOf(err).code
}

// sentence returns the error in one line, with what to do about it.
func sentence(err error) string {
	text := oneLine(err)
	if hint := classOf(err).hint; hint != "" {
		text += "; " + hint
	}
	return text
}

// oneLines returns errors, each in one line.
func oneLines(errs []error) []string {
	lines := []string{} // not nil, for JSON
	for _, err := range errs {
		lines = append(lines, oneLine(err))
	}
	return lines
}

// oneLine returns the error in one line. If the store and the system both say what
// failed on which file, it says so only once.
func oneLine(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	if what, rest, _ := strings.Cut(text, ": "); strings.HasPrefix(rest, what+": ") {
		return rest
	}
	return text
}
