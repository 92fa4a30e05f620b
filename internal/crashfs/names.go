package crashfs

import (
	"maps"
	"path/filepath"
	"slices"
)

// nameTable maps names to files, as processes see them and on the disk. It has no
// directories: every directory exists.
type nameTable struct {
	seen    map[string]*inode
	durable map[string]*inode
	// pending are the changes that no SyncDir has made durable, oldest first. A
	// disk keeps their order: a crash leaves durable and the first changes of
	// pending.
	pending []nameChange
}

// nameChange is one create, remove or rename. Either all of it is on the disk or
// nothing.
type nameChange []nameEntry

type nameEntry struct {
	name string
	ino  *inode // nil: the name is gone
}

func newNameTable() nameTable {
	return nameTable{seen: map[string]*inode{}, durable: map[string]*inode{}}
}

func (t *nameTable) change(entries ...nameEntry) {
	for _, e := range entries {
		if old := t.seen[e.name]; old != nil {
			old.links--
		}
		if e.ino != nil {
			e.ino.links++
		}
	}
	nameChange(entries).apply(t.seen)
	t.pending = append(t.pending, entries)
}

func (c nameChange) apply(names map[string]*inode) {
	for _, e := range c {
		if e.ino == nil {
			delete(names, e.name)
		} else {
			names[e.name] = e.ino
		}
	}
}

// in reports whether the change touches a name of dir.
func (c nameChange) in(dir string) bool {
	return slices.ContainsFunc(c, func(e nameEntry) bool { return filepath.Dir(e.name) == dir })
}

func (t *nameTable) syncDir(dir string) {
	t.pending = slices.DeleteFunc(slices.Clone(t.pending), func(c nameChange) bool {
		if c.in(dir) {
			c.apply(t.durable)
			return true
		}
		return false
	})
}

// settle makes all names durable.
func (t *nameTable) settle() {
	t.durable, t.pending = maps.Clone(t.seen), nil
}

// prefix returns the names on the disk after the first n pending changes.
func (t *nameTable) prefix(n int) map[string]*inode {
	names := maps.Clone(t.durable)
	for _, c := range t.pending[:n] {
		c.apply(names)
	}
	return names
}
