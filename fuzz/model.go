package fuzz

import (
	"maps"
	"slices"

	"github.com/cidstore/cidstore"
)

// E is a 128-bit identifier.
type E = cidstore.E

// Model says what a store must hold. It has for each key its values, ascending, of which
// there is at least one.
type Model map[E][]E

// Insert puts value into the set of key.
func (m Model) Insert(key, value E) {
	values := m[key]
	if at, there := slices.BinarySearchFunc(values, value, E.Compare); !there {
		m[key] = slices.Insert(values, at, value)
	}
}

// Delete removes all values of key.
func (m Model) Delete(key E) { delete(m, key) }

// DeleteValue removes value from the set of key.
func (m Model) DeleteValue(key, value E) {
	values := m[key]
	at, there := slices.BinarySearchFunc(values, value, E.Compare)
	switch {
	case there && len(values) == 1:
		delete(m, key)
	case there:
		m[key] = slices.Delete(values, at, at+1)
	}
}

// Has reports whether value is in the set of key.
func (m Model) Has(key, value E) bool {
	_, there := slices.BinarySearchFunc(m[key], value, E.Compare)
	return there
}

// Values returns a copy of the set of key in ascending order, or nil if it is empty.
func (m Model) Values(key E) []E { return slices.Clone(m[key]) }

// Pairs returns the number of (key, value) pairs.
func (m Model) Pairs() (n int) {
	for _, values := range m {
		n += len(values)
	}
	return n
}

// Clone returns a copy that shares nothing.
func (m Model) Clone() Model {
	c := make(Model, len(m))
	for key, values := range m {
		c[key] = slices.Clone(values)
	}
	return c
}

// Equal reports whether both hold the same pairs.
func (m Model) Equal(o Model) bool { return maps.EqualFunc(m, o, slices.Equal) }

// Op is one operation of a batch.
type Op struct {
	Kind       OpKind
	Key, Value E // Value counts in Insert and DeleteValue
}

// OpKind is what an Op does.
type OpKind uint8

const (
	Insert OpKind = iota
	DeleteValue
	Delete
)

// changed is what operations change: a model, or a batch of a store.
type changed interface {
	Insert(key, value E)
	DeleteValue(key, value E)
	Delete(key E)
}

func apply(ops []Op, to changed) {
	for _, o := range ops {
		switch o.Kind {
		case Insert:
			to.Insert(o.Key, o.Value)
		case DeleteValue:
			to.DeleteValue(o.Key, o.Value)
		case Delete:
			to.Delete(o.Key)
		}
	}
}

// Apply applies operations in order.
func (m Model) Apply(ops []Op) { apply(ops, m) }

// BatchOf returns a batch of operations.
func BatchOf(ops []Op) *cidstore.Batch {
	b := new(cidstore.Batch)
	apply(ops, b)
	return b
}
