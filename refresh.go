package cidstore

import (
	"errors"
	"fmt"
	"math"

	"github.com/cidstore/cidstore/wal"
)

// Refresh makes what the writer has acknowledged so far visible to a read-only store. It
// never blocks the writer. Snapshots stay as they are. It returns ErrReplaced if the path
// now names another file, and ErrTruncated if the file was cut short; what was visible then
// stays so. In a writable store it does nothing.
func (s *Store) Refresh() error {
	s.closing.RLock()
	defer s.closing.RUnlock()
	switch {
	case s.closed:
		return ErrClosed
	case !s.opts.ReadOnly:
		return nil
	}
	s.checkpointing.Lock()
	defer s.checkpointing.Unlock()
	return s.refresh()
}

// refresh is Refresh; closing and checkpointing are held.
func (s *Store) refresh() error {
	if s.opts.emptyLog {
		return nil
	}
	if err := s.notReplaced(); err != nil {
		return err
	}
	on, err := s.readOn()
	if err == nil && !on {
		err = s.readAll()
	}
	if err != nil {
		return fmt.Errorf("refresh: %w", err)
	}
	return nil
}

// readOn shows what was written to the log since it was last read, if the root is still
// the newest. on reports that there is no more to show. If it is false, because the root
// is older or something is wrong, all of the log has to be read.
func (s *Store) readOn() (on bool, err error) {
	if _, err := s.file.Refresh(); err != nil {
		return false, err
	}
	st := s.followed
	if st == nil || s.file.View() != st.view.View {
		return false, nil
	}
	s.followed = nil // no frame is added to a table twice
	late := false
	report, err := wal.ScanOn(s.logConfig(st.view), st.view.record.epochs, s.replayed, func(f wal.Frame) error {
		late = late || f.PastWatermark
		st.add(f.First, f.Nanos, f.Ops)
		return nil
	})
	if err != nil {
		return false, nil // reading all of the log finds that too, or that it was overwritten
	}
	if lapped, err := s.lapped(st.view); lapped || err != nil {
		return false, err
	}
	if late {
		if err := s.file.SyncForReading(); err != nil {
			return false, err
		}
	}
	s.metrics.scanned(&s.replayed, &report, nil)
	s.replayed, s.followed = report, st
	st.fresh.publish(report.End.Sequence)
	return true, nil
}

// readAll shows the newest root and all of the log that it lacks.
func (s *Store) readAll() error {
	v, err := s.newestView()
	if err == nil {
		_, err = s.follow(v)
	}
	return err
}

// newestView returns the newest root, after looking for one.
func (s *Store) newestView() (*view, error) {
	if _, err := s.file.Refresh(); err != nil {
		return nil, err
	}
	return s.loadView(s.file.View())
}

// followTries bounds how often a writer may overwrite the log while it is read.
const followTries = 100

// follow shows readers v, or a newer root, and the log after it.
func (s *Store) follow(v *view) (salvaged, err error) {
	found, salvaged, err := s.readAfter(v)
	if err == nil {
		s.showFound(&found)
		s.followed = found.state
	}
	return salvaged, err
}

// readAfter reads the log after v, while a writer may be at work. What the writer writes
// during the scan can make an intact log look damaged: a record is read before it is
// written, and one far after it afterwards. What it overwrites can make a long log look
// short. So a scan counts only if the older slot's root, which the log's tail follows, has
// not passed v by then; and an error counts only if another scan comes no further.
// salvaged is the damage that Options.Salvage reads past.
func (s *Store) readAfter(v *view) (found replayed, salvaged, err error) {
	reached := wal.Seq(0)
	for range followTries {
		var damage error
		found.state.free()
		found, damage = s.replay(v)
		lapped, err := s.lapped(v)
		switch {
		case err != nil:
			return found, nil, err
		case lapped:
		case damage != nil && (found.report.End.Sequence > reached || reached == 0):
			reached = max(found.report.End.Sequence, 1)
		case damage != nil && !s.opts.Salvage:
			return found, nil, damage
		default:
			// What this reader shows must not be taken back by a power cut.
			if len(found.late) > 0 {
				if err := s.file.SyncForReading(); err != nil {
					return found, nil, err
				}
			}
			return found, damage, nil
		}
		if v, err = s.newestView(); err != nil {
			return found, nil, errors.Join(damage, err)
		}
	}
	return found, nil, fmt.Errorf("the log was overwritten %d times while it was read", followTries)
}

// lapped reports whether a writer may have overwritten log records that v lacks.
func (s *Store) lapped(v *view) (bool, error) {
	payloads, err := s.file.Payloads()
	if err != nil {
		return false, err
	}
	tail := wal.Seq(math.MaxUint64)
	for _, p := range payloads {
		r, err := parseRecord(p, math.MaxInt64)
		if err != nil {
			return false, err
		}
		tail = min(tail, r.lastApplied)
	}
	return tail > v.record.lastApplied, nil
}
