package interop

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/oracle"
)

// spread changes a byte at each of some places of a file, one at a time. What is read
// must be right, or an error that names the file; with damage skipped, no pair may be
// wrong.
const spread = `
import sys
sys.path.insert(0, sys.argv[1])
import cidstore
path, places = sys.argv[2], int(sys.argv[3])
with cidstore.open(path) as store:
    want = sorted(store.pairs())
keys = [want[i * (len(want) - 1) // 5][0] for i in range(6)]
values = {key: [v for k, v in want if k == key] for key in keys}
with open(path, "rb") as f:
    size = len(f.read())
refused = {"opened": 0, "frame": 0, "get": 0}

def read(what, read, right):
    try:
        got = read()
    except ValueError as error:
        assert path in str(error), error
        refused[what] += 1
    else:
        assert got is None or right(got), (at, what)

for n in range(places):
    at = 64 + n * (size - 65) // (places - 1)
    with open(path, "r+b") as f:
        f.seek(at)
        good = f.read(1)
        f.seek(at)
        f.write(bytes([good[0] ^ 16]))
    stores = []
    read("opened", lambda: stores.append(cidstore.open(path)), None)
    for store in stores:
        with store:
            read("frame", lambda: sorted((a << 64 | b, c << 64 | d) for a, b, c, d in store.to_dataframe().to_numpy().tolist()),
                 lambda got: got == want)
            read("frame", lambda: list(store.pairs(skip_bad=True)), lambda got: len(got) == len(set(got)) and set(got) <= set(want))
            for key in keys:
                read("get", lambda: store.get(key), lambda got: got == values[key])
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(good)
with cidstore.open(path) as store:
    assert sorted(store.pairs()) == want
print("right or refused", refused["frame"] > 0, refused["get"] > 0)
`

// TestPythonNeverReadsWrongPairs damages a closed store, nearly all of which is
// data. The store is the same in each run, so that the same few places of a short
// run are damaged.
func TestPythonNeverReadsWrongPairs(t *testing.T) {
	t.Parallel()
	python := oracle.Python(t, "h5py", "numpy", "pandas")
	places := "60"
	if full {
		places = "3000"
	}
	path, _ := build(t, sample{
		options: cidstore.Options{SplitThreshold: 16, WALBytes: 64 << 10, GCInterval: -1, Rand: rand.NewChaCha8([32]byte{1})},
		fill:    func(t *testing.T, s *cidstore.Store) { put(t, s, numbered(1500, 7)) },
	})
	if out := run(t, python, "-c", spread, filepath.Dir(reader(t)), path, places); out != "right or refused True True\n" {
		t.Errorf("the reader says %q", out)
	}
}
