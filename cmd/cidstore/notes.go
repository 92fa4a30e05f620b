package main

import (
	"context"
	"log/slog"
)

// notes prints the warnings of the store as notes. Its errors are returned by its calls.
type notes struct{ p *program }

func (n notes) Enabled(_ context.Context, level slog.Level) bool { return level == slog.LevelWarn }

func (n notes) Handle(_ context.Context, r slog.Record) error {
	var path string
	what := r.Message
	r.Attrs(func(a slog.Attr) bool {
		switch v := a.Value.Any().(type) {
		case string:
			path = v
		case error:
			what += ": " + oneLine(v)
		}
		return true
	})
	n.p.note("note: %s: %s", path, what)
	return nil
}

func (n notes) WithAttrs([]slog.Attr) slog.Handler { return n }

func (n notes) WithGroup(string) slog.Handler { return n }
