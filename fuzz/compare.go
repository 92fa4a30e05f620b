package fuzz

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"github.com/cidstore/cidstore"
)

// Reader has the methods that a store and a snapshot share.
type Reader interface {
	Lookup(key E) ([]E, error)
	AppendLookup(dst []E, key E) ([]E, error)
	Values(key E) iter.Seq2[E, error]
	Has(key, value E) (bool, error)
	HasKey(key E) (bool, error)
	Count(key E) (int, error)
}

// Contents reads all of a snapshot into a model. It returns an error if a pair comes twice
// or the values of a key do not ascend.
func Contents(v *cidstore.Snapshot) (Model, error) {
	m := make(Model)
	var lastKey, lastValue E
	pairs := 0
	for key, value := range v.All() {
		if pairs > 0 && key == lastKey && value.Compare(lastValue) <= 0 {
			return nil, fmt.Errorf("all pairs: of key %v, value %v comes after %v", key, value, lastValue)
		}
		m.Insert(key, value)
		pairs++
		lastKey, lastValue = key, value
	}
	if err := v.Err(); err != nil {
		return nil, fmt.Errorf("all pairs: %w", err)
	}
	if n := m.Pairs(); n != pairs {
		return nil, fmt.Errorf("all pairs: %d pairs, of which %d differ", pairs, n)
	}
	return m, nil
}

// ContentsOf returns the Contents of a new snapshot.
func ContentsOf(s *cidstore.Store) (Model, error) {
	v, err := s.Snapshot()
	if err != nil {
		return nil, err
	}
	defer v.Close()
	return Contents(v)
}

// CompareKey compares everything that r answers about one key.
func CompareKey(r Reader, m Model, key E) error {
	want := m[key]
	got, err := r.Lookup(key)
	if err != nil {
		return fmt.Errorf("Lookup(%v): %w", key, err)
	}
	if !slices.Equal(got, want) || (got == nil) != (len(want) == 0) {
		return fmt.Errorf("Lookup(%v): %s", key, difference(got, want))
	}
	n, err := r.Count(key)
	if err != nil || n != len(want) {
		return fmt.Errorf("Count(%v) = %d, %v; want %d", key, n, err, len(want))
	}
	ok, err := r.HasKey(key)
	if err != nil || ok != (len(want) > 0) {
		return fmt.Errorf("HasKey(%v) = %v, %v; want %v", key, ok, err, len(want) > 0)
	}
	for _, value := range want[:min(len(want), 3)] {
		if err := CompareHas(r, m, key, value); err != nil {
			return err
		}
	}
	return nil
}

// CompareHas compares what r answers about one pair.
func CompareHas(r Reader, m Model, key, value E) error {
	if ok, err := r.Has(key, value); err != nil || ok != m.Has(key, value) {
		return fmt.Errorf("Has(%v, %v) = %v, %v; want %v", key, value, ok, err, m.Has(key, value))
	}
	return nil
}

// CompareValues compares the values of one key as a stream. limit ends the loop early.
func CompareValues(r Reader, m Model, key E, limit int) error {
	want := m.Values(key)
	var got []E
	for value, err := range r.Values(key) {
		if err != nil {
			return fmt.Errorf("Values(%v): %w", key, err)
		}
		if len(got) == limit {
			break
		}
		got = append(got, value)
	}
	if want = want[:min(len(want), limit)]; !slices.Equal(got, want) {
		return fmt.Errorf("Values(%v): %s", key, difference(got, want))
	}
	return nil
}

// CompareAll compares all of a snapshot: all pairs, all keys, and each key by itself.
func CompareAll(v *cidstore.Snapshot, m Model) error {
	got, err := Contents(v)
	if err != nil {
		return err
	}
	if !got.Equal(m) {
		return fmt.Errorf("all pairs: %s", got.difference(m))
	}
	seen := make(map[E]bool)
	for key := range v.Keys() {
		if seen[key] || m[key] == nil {
			return fmt.Errorf("all keys: %v, twice %v, want one of %d keys", key, seen[key], len(m))
		}
		seen[key] = true
	}
	if err := v.Err(); err != nil || len(seen) != len(m) {
		return fmt.Errorf("all keys: %d keys, %w; want %d", len(seen), err, len(m))
	}
	for key := range m {
		if err := CompareKey(v, m, key); err != nil {
			return err
		}
	}
	return nil
}

// CompareStore compares everything that a store holds, and its length.
func CompareStore(s *cidstore.Store, m Model) error {
	v, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer v.Close()
	if err := CompareAll(v, m); err != nil {
		return err
	}
	return CompareLen(s, m)
}

// CompareLen compares the numbers of keys and pairs.
func CompareLen(s *cidstore.Store, m Model) error {
	keys, values, err := s.Len(context.Background())
	if err != nil || keys != uint64(len(m)) || values != uint64(m.Pairs()) {
		return fmt.Errorf("length = %d, %d, %v; want %d, %d", keys, values, err, len(m), m.Pairs())
	}
	return nil
}

// Sound checks every checksum and invariant of a store. The error has all defects.
func Sound(s *cidstore.Store) error {
	report, err := s.Check(context.Background())
	if err != nil {
		return fmt.Errorf("%w; %v", err, report.Defects)
	}
	return nil
}

// difference shows with an example how two ascending sets differ.
func difference(got, want []E) string {
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	of := func(s []E) string {
		if at < len(s) {
			return s[at].String()
		}
		return "the end"
	}
	return fmt.Sprintf("%d values, want %d; number %d is %s, want %s", len(got), len(want), at, of(got), of(want))
}

// difference shows with an example how the contents differ from what is wanted.
func (m Model) difference(want Model) string {
	text := fmt.Sprintf("%d keys with %d pairs, want %d with %d", len(m), m.Pairs(), len(want), want.Pairs())
	for _, models := range [2][2]Model{{want, m}, {m, want}} {
		for key := range models[0] {
			if a, b := m.Values(key), want.Values(key); !slices.Equal(a, b) {
				return fmt.Sprintf("%s; key %v: %s", text, key, difference(a, b))
			}
		}
	}
	return text
}
