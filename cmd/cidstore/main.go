// Command cidstore makes, fills, reads, checks and copies CIDStore files. See
// cidstore --help; exit.go explains the exit codes.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:])) }

// run is the program except for os.Exit, which would skip deferred calls.
func run(args []string) int {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	p := &program{in: os.Stdin, out: bufio.NewWriterSize(output{interruptibleWriter{os.Stdout, ctx}}, 64<<10), messages: os.Stderr}
	root := p.root()
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if err != nil && !p.started {
		err = usageError{err}
	}
	if flushErr := p.out.Flush(); flushErr != nil && err == nil {
		err = flushErr
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil && !errors.Is(err, errNegative) {
		text := sentence(err)
		if isUsage(err) {
			text += "; see " + command.CommandPath() + " --help"
		}
		p.say("cidstore: %s", text)
	}
	return exitCode(err)
}

// untilSignal returns a context that the first SIGINT, SIGTERM or SIGHUP ends, with the
// signal as its cause. A second signal kills the program, as it would by default. Under
// nohup SIGHUP stays ignored.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) {
		signal.Notify(signals, syscall.SIGHUP)
	}
	go func() {
		select {
		case s := <-signals:
			signal.Stop(signals)
			cancel(stoppedError{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil) }
}

// program is what the commands share: the standard streams and the flags that
// every command takes.
type program struct {
	in       io.Reader
	out      *bufio.Writer // results; flushed by run
	messages *os.File      // progress, messages and errors
	started  bool          // the command line made sense: a command runs

	json          bool
	quiet         bool
	progressJSON  bool // of the commands that copy, move or import data
	keyFile       string
	allowUnsafeFS bool
	wait          time.Duration   // for a lock
	ctx           context.Context // ended by a signal
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "cidstore",
		Short: "Map 128-bit identifiers to sets of them, in one crash-safe HDF5 file",
		Long: `cidstore maps 128-bit identifiers to sets of 128-bit identifiers. A store is one file
that survives kills and power cuts, and that every HDF5 tool can read.

A KEY or VALUE is an identifier: 32 hexadecimal digits; a UUID, plain, in braces or
after urn:uuid:; or 0x and 1 to 32 digits. Any other text is a name and stands for its
UUIDv5 in the DNS namespace. A text must be UTF-8 and must not be empty. It must not
contain a NUL, a byte order mark, or a carriage return without a line feed.

Import reads TSV, CSV and the JSON that export prints. They may be packed with gzip or
zstd, and may be in UTF-8 or in UTF-16 with a byte order mark. With --dataset it reads
tables of HDF5 files. It refuses anything else, with exit code 5. See cidstore help
import.

Results go to standard output, progress and messages to standard error. Exit codes:
0 done, 1 negative answer, 2 wrong usage, 3 corrupt file or no store, 4 locked by another
process, 5 failed input or output or full disk, 6 other format version, 129, 130 and 143
stopped by SIGHUP (the terminal was closed), SIGINT and SIGTERM.

A STORE must be a regular file: a folder, a device or a pipe gives exit code 5. A file
that is no store is left as it is.

Only one process at a time writes a store. A command that finds the store locked waits
for up to --wait, so that short commands such as put and del can run side by side.
Restore replaces the file, and so fails at once.`,
		Example: `  cidstore import words.h5 wordnet-words.tsv.gz
  cidstore get words.h5 dog --resolve wordnet-words.tsv.gz`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(*cobra.Command, []string) error { return usageError{errors.New("no command given")} },
		PersistentPreRunE: func(c *cobra.Command, args []string) error {
			p.started, p.ctx = true, c.Context()
			if p.wait < 0 {
				return usageError{fmt.Errorf("--wait: %v, want 0 or more", p.wait)}
			}
			return p.checkArguments(c, args)
		},
		Version: versionLine(),
	}
	root.SetOut(p.out)
	root.SetVersionTemplate("{{.Version}}\n")
	root.Flags().Bool("version", false, "print the version of cidstore")
	flags := root.PersistentFlags()
	flags.BoolVar(&p.json, "json", false, "print results as JSON, one object per line")
	flags.BoolVarP(&p.quiet, "quiet", "q", false, "print results and errors only, no progress and no messages")
	flags.StringVar(&p.keyFile, "wal-key-file", "", "`file` whose complete contents are the secret of the log's HMAC chain")
	flags.BoolVar(&p.allowUnsafeFS, "allow-unsafe-fs", false, "also write on network and unknown file systems, which may lose data")
	flags.DurationVar(&p.wait, "wait", defaultWait, "how long to wait for a STORE that another process has locked, such as 500ms or 1m; 0 means to fail at once")
	root.AddCommand(p.importCommand(), p.exportCommand(), p.putCommand(), p.getCommand(), p.delCommand(),
		p.countCommand(), p.statCommand(), p.checkCommand(), p.gcCommand(), p.maintainCommand(), p.scrubCommand(), p.shrinkCommand(),
		p.backupCommand(), p.restoreCommand(), p.repairCommand(), p.migrateCommand(), p.benchCommand(), p.inspectCommand(),
		p.versionCommand())
	refuseUnknown(root)
	return root
}

// checkArguments refuses an empty file name in a flag, as in --wal-key-file="$UNSET": it
// would count as not given. Arguments that name files must not be empty either; checkTexts
// judges a KEY or VALUE.
func (p *program) checkArguments(c *cobra.Command, args []string) error {
	var texts []string
	if slices.Contains([]string{"put", "get", "del", "count"}, c.Name()) {
		args, texts = args[:1], args[1:]
	}
	if slices.Contains(args, "") && !c.Hidden { // completion's own command is hidden
		return usageError{fmt.Errorf("%s: an argument is empty, want the name of a file", c.Name())}
	}
	if flag := c.Flag("since"); flag != nil && slices.Contains(flag.Value.(interface{ GetSlice() []string }).GetSlice(), "") {
		return usageError{errors.New("--since: no file is named")}
	}
	for _, name := range []string{"wal-key-file", "resolve", "rejects", "output"} {
		if flag := c.Flag(name); flag != nil && flag.Changed && flag.Value.String() == "" {
			return usageError{fmt.Errorf("--%s: no file is named", name)}
		}
	}
	return p.checkTexts(c.Name(), texts)
}

// completeValues makes the shell complete the values of a flag.
func completeValues(c *cobra.Command, flag string, values ...string) {
	// It fails only for a flag that the command does not have.
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// refuseUnknown makes an unknown command after help and completion wrong usage. By
// default cobra prints help instead.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Args = func(_ *cobra.Command, args []string) error {
				if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
					return fmt.Errorf("help: unknown command %q", strings.Join(args, " "))
				}
				return nil
			}
		case "completion":
			c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() } // without RunE cobra ignores wrong arguments
		}
	}
}

// outputError is a failed write to standard output, which does not concern the store.
type outputError struct{ error }

func (e outputError) Error() string { return "standard output: " + e.error.Error() }
func (e outputError) Unwrap() error { return e.error }

// output is standard output.
type output struct{ to io.Writer }

func (o output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if err != nil {
		err = outputError{err}
	}
	return n, err
}

// interrupted returns which signal has asked the program to stop, or nil.
func (p *program) interrupted() error { return context.Cause(p.ctx) }

// say prints a message in one line. The names of files and what is in them must not
// control the terminal.
func (p *program) say(format string, args ...any) {
	fmt.Fprintln(p.messages, visible(fmt.Sprintf(format, args...)))
}

// note prints a message for people.
func (p *program) note(format string, args ...any) {
	if !p.quiet {
		p.say(format, args...)
	}
}

// result prints a result, as JSON or in words in one line.
func (p *program) result(object any, format string, args ...any) error {
	if p.json {
		return json.NewEncoder(p.out).Encode(object)
	}
	p.line(format, args...)
	_, err := p.out.Write(nil)
	return err
}

// line prints a line of a result in words, which must not control the terminal either. If
// that fails, p.out returns the error at its next use, and run flushes it at the end.
func (p *program) line(format string, args ...any) {
	fmt.Fprintln(p.out, visible(fmt.Sprintf(format, args...)))
}
