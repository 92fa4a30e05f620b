package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

// Exit codes: the program's interface to scripts.
const (
	exitOK       = 0
	exitNegative = 1
	exitUsage    = 2
	exitCorrupt  = 3 // tampered, truncated, edited, or not a store at all
	exitLocked   = 4
	exitIO       = 5 // any failure of reading or writing, a full disk among them
	exitVersion  = 6
	exitSignal   = 128 // plus the number of the signal
)

// errNegative: the question has been answered, with no. It is not printed.
var errNegative = errors.New("negative answer")

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// arguments is the rule that a command takes least to most arguments.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("arguments: %d, want %s", len(args), c.Parent().CommandPath()+" "+c.Use)
		}
		return nil
	}
}

// many is the upper limit of a command that has none.
const many = math.MaxInt

// stoppedError says which signal asked the program to stop.
type stoppedError struct{ signal os.Signal }

func (e stoppedError) Error() string { return "stopped by a signal: " + e.signal.String() }

// partialError ended an import that had stored some pairs.
type partialError struct {
	error
	stored uint64
}

func (e partialError) Unwrap() error { return e.error }

func (e partialError) Error() string {
	if e.stored == 0 {
		return e.error.Error() + "; nothing is stored"
	}
	return fmt.Sprintf("%v; %s pairs are stored, and the same import can be run again", e.error, grouped(e.stored))
}

// class is what a kind of error means to the caller: an exit code, and what to do.
type class struct {
	is   func(error) bool
	code int
	hint string
}

// classes, the first that fits counts. The order matters where an error matches
// several: a full disk before all failures of input and output.
var classes = []class{
	{isUsage, exitUsage, ""}, // run names the command's --help
	{isA[damagedError], exitCorrupt, ""},
	{isA[outputError], exitIO, "make room where standard output goes; the store is not harmed"},
	{is(cidstore.ErrBackupSeries), exitUsage, "name the full backup and then each increment, in the order in which they were made"},
	{is(cidstore.ErrWALKey), exitUsage, "give the file of the secret that the store was made with by --wal-key-file, or leave it out where there was none"},
	{isA[notAloneError], exitLocked, "wait until those that read the file have closed it; shrink --estimate reads beside them"},
	{is(cidstore.ErrLocked), exitLocked, "wait until that process has ended, or read only"},
	{is(cidstore.ErrLegacy), exitVersion, ""}, // the text says what to do
	{is(cidstore.ErrWide), exitVersion, ""},   // the command says it
	{is(cidstore.ErrFormatVersion), exitVersion, "use the release of cidstore that wrote the file"},
	{is(cidstore.ErrSpacePinned), exitIO, "end the processes that read the file, then run this again"},
	{isNoSpace, exitIO, "free space on the disk, then run this again; what was acknowledged is kept"},
	{is(cidstore.ErrTruncated), exitCorrupt, "the file was cut short: copy it again, restore a backup, or save what is left by cidstore repair STORE NEW --mode salvage"},
	{is(cidstore.ErrForeignEdit), exitCorrupt, "or restore a backup"},
	{is(cidstore.ErrTampered), exitCorrupt, "do not trust this file: restore a backup"},
	{is(cidstore.ErrHalfMade), exitCorrupt, ""}, // the text says what to do
	{is(cidstore.ErrNotCIDStore), exitCorrupt, "name a file that cidstore made, or a new one for import and put"},
	{is(cidstore.ErrCorrupt), exitCorrupt, "see all that is wrong by cidstore check, and restore a backup, or save the rest by cidstore repair STORE NEW --mode salvage"},
	{is(cidstore.ErrReplaced), exitIO, "run this again on the file that is there now"},
	{is(cidstore.ErrPoisoned), exitIO, "look after the disk, then run this again"},
	{is(cidstore.ErrReadOnly), exitIO, "copy the file to where it can be written"},
	{is(cidstore.ErrIO), exitIO, "look after the disk, then see what else is damaged by cidstore check"},
	{is(fs.ErrExist), exitIO, "choose another name, or remove the file first"},
	{isNoStore, exitIO, "check the path; its folder must exist, and import and put make the file"},
	{is(fs.ErrNotExist), exitIO, "check the path"},
	{is(fs.ErrPermission), exitIO, "check the permissions of the file and its folder"},
	{is(syscall.EISDIR), exitIO, "name a file, not a folder"},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

// isA reports whether there is an error of type E in err.
func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isUsage(err error) bool { return isA[usageError](err) }

// isNoStore: what does not exist is STORE or its folder, not another file.
func isNoStore(err error) bool { return isA[openError](err) && errors.Is(err, fs.ErrNotExist) }

func isNoSpace(err error) bool {
	return errors.Is(err, cidstore.ErrNoSpace) || errors.Is(err, syscall.ENOSPC)
}

// classOf finds the class of an error; hint is empty where none is known.
func classOf(err error) class {
	for _, c := range classes {
		if c.is(err) {
			return c
		}
	}
	return class{code: exitIO}
}

// exitCode turns the error of a command into the exit code of the program. A
// failure on the way out, such as in Close, outweighs the signal that led there.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if partial, ok := err.(partialError); ok {
		err = partial.error
	}
	if stopped, ok := err.(stoppedError); ok {
		if number, ok := stopped.signal.(syscall.Signal); ok {
			return exitSignal + int(number)
		}
		return exitSignal + int(syscall.SIGINT)
	}
	if err == errNegative {
		return exitNegative
	}
	return classOf(err).code
}

// sentence is the error in one line, and what to do about it.
func sentence(err error) string {
	text := oneLine(err)
	if hint := classOf(err).hint; hint != "" {
		text += "; " + hint
	}
	return text
}

// oneLine is the error in one line. Where the store and the system both say what
// failed on which file, it says so once.
func oneLine(err error) string {
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	if what, rest, _ := strings.Cut(text, ": "); strings.HasPrefix(rest, what+": ") {
		return rest
	}
	return text
}
