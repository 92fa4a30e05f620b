// Make writes the golden files of the format that the module around it writes:
// stores, and what each must hold as NAME.tsv, one pair a line, sorted. The script
// make runs it in a checkout of the commit whose format is wanted.
//
// What a store must hold is kept here in a map, and never read from the store.
package main

import (
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cidstore/cidstore"
)

// golden is one file: its options, and the lives that wrote it. The process is killed
// at the end of the last one if killed is set.
type golden struct {
	threshold int
	secret    string
	lives     []func(*writer)
	killed    bool
}

var files = map[string]golden{
	"empty":   {lives: []func(*writer){func(*writer) {}}},
	"closed":  {lives: []func(*writer){fill, change}},
	"killed":  {lives: []func(*writer){few, changeFew}, killed: true},
	"secret":  {lives: []func(*writer){few, changeFew}, killed: true, secret: "a secret of the log"},
	"buckets": {lives: []func(*writer){many, grow, shrink}, threshold: 2},
	"runs":    {lives: []func(*writer){some, change}, threshold: 8},
}

// id is an identifier: numbers of both words, so that a swap of them is seen.
func id(high, low uint64) cidstore.E { return cidstore.E{High: high, Low: low} }

// sizes are how many values the keys of fill have.
var sizes = []uint64{1, 2, 3, 4, 5, 64, 2000}

func fill(w *writer) {
	for _, n := range sizes {
		for i := range n {
			w.insert(id(1, n), id(i+7, n-i))
		}
	}
	for i := range uint64(40) { // more than one chunk of entries
		w.insert(id(2, i), id(i, 1))
	}
	w.insert(id(0, 0), id(0, 0))
}

func change(w *writer) {
	for i := range uint64(10) {
		w.deleteValue(id(1, 64), id(3*i+7, 64-3*i))
	}
	for i := range uint64(100) {
		w.deleteValue(id(1, 2000), id(19*i+7, 2000-19*i))
	}
	w.deleteValue(id(1, 5), id(7, 5)) // four are left, and a tombstone
	w.deleteValue(id(1, 3), id(8, 2))
	w.delete(id(2, 0))
	w.delete(id(2, 1))
	w.insert(id(2, 1), id(1, 2))
	w.insert(id(2, 2), id(2, 2))
	w.insert(id(3, 0), id(3, 3))
}

func few(w *writer) {
	for i := range uint64(6) {
		for j := range 2 * i {
			w.insert(id(4, i), id(j, i))
		}
	}
}

func changeFew(w *writer) {
	w.delete(id(4, 1))
	w.delete(id(4, 5))
	w.apply()
	w.insert(id(4, 5), id(5, 5))
	w.deleteValue(id(4, 4), id(3, 4))
	w.deleteValue(id(4, 2), id(0, 2))
	for i := range uint64(4) {
		w.insert(id(4, 2), id(6, i))
	}
	w.apply()
	w.insert(id(5, 0), id(0, 0))
}

func many(w *writer) {
	for i := range uint64(900) {
		w.insert(id(6, i), id(i, 0))
	}
}

func some(w *writer) {
	fill(w)
	for i := range uint64(200) {
		w.insert(id(8, i), id(8, i))
	}
}

// grow makes values that have no room in an entry, and gone keys.
func grow(w *writer) {
	for i := range uint64(20) {
		w.delete(id(6, 3*i))
		for j := range i {
			w.insert(id(6, 3*i+1), id(j, i))
		}
	}
}

// shrink takes half of the sets away that grow has made, and ends with keys of two
// values.
func shrink(w *writer) {
	for i := uint64(5); i < 20; i += 2 {
		w.delete(id(6, 3*i+1))
	}
	for i := range uint64(20) {
		w.insert(id(7, i/2), id(i, 7))
	}
}

// writer gives the same operations to a store and to a map.
type writer struct {
	store *cidstore.Store
	batch cidstore.Batch
	want  map[cidstore.E]map[cidstore.E]bool
}

func (w *writer) insert(key, value cidstore.E) {
	w.batch.Insert(key, value)
	if w.want[key] == nil {
		w.want[key] = make(map[cidstore.E]bool)
	}
	w.want[key][value] = true
	w.applyFull()
}

func (w *writer) delete(key cidstore.E) {
	w.batch.Delete(key)
	delete(w.want, key)
	w.applyFull()
}

func (w *writer) deleteValue(key, value cidstore.E) {
	if !w.want[key][value] {
		log.Fatalf("%v has no value %v to delete", key, value)
	}
	w.batch.DeleteValue(key, value)
	delete(w.want[key], value)
	w.applyFull()
}

// applyFull writes a batch that is large enough: the log is small.
func (w *writer) applyFull() {
	if w.batch.Len() >= 200 {
		w.apply()
	}
}

func (w *writer) apply() {
	if err := w.store.Apply(&w.batch); err != nil {
		log.Fatal(err)
	}
	w.batch.Reset()
}

func (w *writer) pairs() string {
	var lines []string
	for key, values := range w.want {
		for value := range values {
			lines = append(lines, fmt.Sprintf("%v\t%v\n", key, value))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// makeFile writes one store and its pairs. Clock and random bytes are given, so that two
// runs differ by their process numbers alone.
func makeFile(folder, name string) error {
	file := files[name]
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	options := &cidstore.Options{
		WALBytes: 64 << 10, SplitThreshold: file.threshold, GCInterval: -1,
		Rand:  rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%-32s", name)))),
		Clock: func() time.Time { now = now.Add(time.Second); return now },
	}
	if file.secret != "" {
		options.WALKey = []byte(file.secret)
	}
	w := &writer{want: make(map[cidstore.E]map[cidstore.E]bool)}
	for i, life := range file.lives {
		var err error
		if w.store, err = cidstore.Open(filepath.Join(folder, name+".h5"), options); err != nil {
			return err
		}
		life(w)
		w.apply()
		if i < len(file.lives)-1 || !file.killed {
			if err := w.store.Close(); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, name+".tsv"), []byte(w.pairs()), 0o666)
}

// child is set where a process makes one file, and is killed then.
const child = "GOLDEN_CHILD"

// main makes files in a folder, each in a process of its own.
func main() {
	log.SetFlags(0)
	if os.Getenv(child) != "" {
		if err := makeFile(os.Args[1], os.Args[2]); err != nil {
			log.Fatal(err)
		}
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Kill()
		}
		log.Fatal("not killed: ", err)
	}
	for _, name := range os.Args[2:] {
		command := exec.Command(os.Args[0], os.Args[1], name)
		command.Stderr, command.Env = os.Stderr, append(os.Environ(), child+"=1")
		if err := command.Run(); err == nil || command.ProcessState.ExitCode() != -1 {
			log.Fatalf("%s: %v", name, err)
		}
	}
}
