package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	_ "modernc.org/sqlite"
)

// SQLite, translated to Go, holds rows (k, v) in a table without row ids whose
// primary key is both. Its settings:
//   - Write-ahead log with synchronous=FULL, which syncs each commit.
//   - Half of the memory as cache of the one connection that writes, a quarter for
//     each reader.
//   - A checkpoint after 64 MiB of log. The default, 4 MiB, is reached by nearly
//     every batch of random keys.
//   - Prepared statements, 64 rows a statement, sorted batches, one transaction each.
//   - Single pairs of several writers go through a group.
//   - Relaxed: synchronous=NORMAL, which syncs only in checkpoints.
type sqliteEngine struct {
	db       *sql.DB
	mu       sync.Mutex // held during a transaction of w
	w        *sql.Conn
	prepared []*sql.Stmt // all statements below

	begin, commit, rollback, one, many, del, delKey *sql.Stmt
	group
}

// sqliteRows is how many rows one statement inserts.
const sqliteRows = 64

func openSQLite(dir string, relaxed bool) (engine, error) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "sqlite.db"))
	if err != nil {
		return nil, err
	}
	db.SetMaxIdleConns(0) // a reader that is closed frees its cache
	e := &sqliteEngine{db: db}
	e.write = e.insertBatch
	synchronous := "synchronous=FULL"
	if relaxed {
		synchronous = "synchronous=NORMAL"
	}
	if err := e.prepare(synchronous); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *sqliteEngine) prepare(synchronous string) (err error) {
	if e.w, err = e.connect(memory/2, "journal_mode=WAL", synchronous, "wal_autocheckpoint=16384"); err != nil {
		return err
	}
	table := "CREATE TABLE IF NOT EXISTS t(k BLOB NOT NULL, v BLOB NOT NULL, PRIMARY KEY(k, v)) WITHOUT ROWID"
	if _, err = e.w.ExecContext(context.Background(), table); err != nil {
		return err
	}
	insert := "INSERT OR IGNORE INTO t(k, v) VALUES "
	for _, s := range []struct {
		to   **sql.Stmt
		text string
	}{
		{&e.begin, "BEGIN IMMEDIATE"},
		{&e.commit, "COMMIT"},
		{&e.rollback, "ROLLBACK"},
		{&e.one, insert + "(?, ?)"},
		{&e.many, insert + strings.Repeat("(?, ?), ", sqliteRows-1) + "(?, ?)"},
		{&e.del, "DELETE FROM t WHERE k = ? AND v = ?"},
		{&e.delKey, "DELETE FROM t WHERE k = ?"},
	} {
		if *s.to, err = e.w.PrepareContext(context.Background(), s.text); err != nil {
			return err
		}
		e.prepared = append(e.prepared, *s.to)
	}
	return nil
}

// connect opens a connection with a cache of the given size, in bytes.
func (e *sqliteEngine) connect(cache int64, pragmas ...string) (*sql.Conn, error) {
	c, err := e.db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	for _, pragma := range append(pragmas, "busy_timeout=60000", fmt.Sprintf("cache_size=-%d", cache>>10)) {
		if _, err := c.ExecContext(context.Background(), "PRAGMA "+pragma); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func (e *sqliteEngine) insertBatch(pairs []pair) error {
	pairs = sorted(pairs)
	if len(pairs) == 1 {
		return e.alone(e.one, pairs[0].key[:], pairs[0].value[:])
	}
	return e.transaction(func() error {
		args := make([]any, 0, 2*sqliteRows)
		for len(pairs) >= sqliteRows {
			args = args[:0]
			for i := range pairs[:sqliteRows] {
				args = append(args, pairs[i].key[:], pairs[i].value[:])
			}
			if _, err := e.many.Exec(args...); err != nil {
				return err
			}
			pairs = pairs[sqliteRows:]
		}
		return each(e.one, pairs)
	})
}

func (e *sqliteEngine) remove(pairs []pair) error {
	pairs = sorted(pairs)
	return e.transaction(func() error { return each(e.del, pairs) })
}

func (e *sqliteEngine) removeKey(key [16]byte) error { return e.alone(e.delKey, key[:]) }

// tidy writes the complete database again and empties the log.
func (e *sqliteEngine) tidy() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.w.ExecContext(context.Background(), "VACUUM"); err != nil {
		return err
	}
	var busy, inLog, moved int
	row := e.w.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)")
	if err := row.Scan(&busy, &inLog, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("sqlite: the checkpoint was blocked with %d pages in the log, %d moved", inLog, moved)
	}
	return nil
}

// each runs a statement with each pair.
func each(s *sql.Stmt, pairs []pair) error {
	for i := range pairs {
		if _, err := s.Exec(pairs[i].key[:], pairs[i].value[:]); err != nil {
			return err
		}
	}
	return nil
}

// alone runs one statement as a transaction of its own.
func (e *sqliteEngine) alone(s *sql.Stmt, args ...any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := s.Exec(args...)
	return err
}

func (e *sqliteEngine) transaction(body func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.begin.Exec(); err != nil {
		return err
	}
	err := body()
	if err == nil {
		_, err = e.commit.Exec()
	}
	if err != nil {
		_, undo := e.rollback.Exec()
		return errors.Join(err, undo)
	}
	return nil
}

// close closes the writing connection last, because the last one checkpoints and
// removes the log.
func (e *sqliteEngine) close() error {
	var errs []error
	for _, s := range e.prepared {
		errs = append(errs, s.Close())
	}
	if e.w != nil {
		errs = append(errs, e.w.Close())
	}
	return errors.Join(append(errs, e.db.Close())...)
}

func (e *sqliteEngine) newReader() (reader, error) {
	conn, err := e.connect(memory / 4)
	if err != nil {
		return reader{}, err
	}
	query, err := conn.PrepareContext(context.Background(), "SELECT v FROM t WHERE k = ?")
	if err != nil {
		return reader{}, errors.Join(err, conn.Close())
	}
	return reader{
		func(key [16]byte, dst [][16]byte) ([][16]byte, error) { return valuesOf(query, key, dst) },
		func() error { return errors.Join(query.Close(), conn.Close()) },
	}, nil
}

// valuesOf appends the values of a key to dst.
func valuesOf(query *sql.Stmt, key [16]byte, dst [][16]byte) ([][16]byte, error) {
	rows, err := query.Query(key[:])
	if err != nil {
		return dst, err
	}
	defer rows.Close()
	var v sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&v); err != nil {
			return dst, err
		}
		if len(v) != 16 {
			return dst, fmt.Errorf("sqlite: a value is %d bytes long", len(v))
		}
		dst = append(dst, [16]byte(v))
	}
	return dst, rows.Err()
}
