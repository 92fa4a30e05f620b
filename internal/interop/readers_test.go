package interop

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/internal/oracle"
)

// lookUp prints the pairs of the keys that it is given, by get.
const lookUp = `
import sys
sys.path.insert(0, sys.argv[1])
import cidstore
with cidstore.open(sys.argv[2]) as store:
    for key in sys.argv[3:]:
        values = store.get(int(key, 16))
        assert values == sorted(values)
        for value in values:
            print("%s\t%032x" % (key, value))
`

func checkPython(t *testing.T, path string, want []pair) {
	python := oracle.H5py(t)
	samePairs(t, "cidstore.py", parsePairs(t, run(t, python, reader(t), path)), want)

	// Some keys are given by name; two are in no store.
	asked := []cidstore.E{{High: 1 << 63, Low: 1}, {High: 1, Low: 2}}
	for i := range 30 {
		if len(want) > 0 {
			asked = append(asked, want[i*(len(want)-1)/30][0])
		}
	}
	slices.SortFunc(asked, cidstore.E.Compare)
	asked = slices.Compact(asked)
	args := []string{"-c", lookUp, filepath.Dir(reader(t)), path}
	for _, key := range asked {
		args = append(args, key.String())
	}
	wanted := slices.DeleteFunc(slices.Clone(want), func(p pair) bool {
		_, found := slices.BinarySearchFunc(asked, p[0], cidstore.E.Compare)
		return !found
	})
	samePairs(t, "get", parsePairs(t, run(t, python, args...)), wanted)
}

// frames reads the entries by columns, as any program could, and with to_dataframe. The columns
// have the names that docs/FORMAT.md gives to the fields.
const frames = `
import re, sys
sys.path.insert(0, sys.argv[1])
import cidstore, h5py, pandas
with h5py.File(sys.argv[2], "r") as f:
    states = f["buckets/state"]
    size = len(f["buckets/entries"]) // len(states)
    count = sum(int(n) for n in states["entry_count"][:50])
    frame = pandas.DataFrame(f["buckets/entries"][:50 * size])
    assert list(frame.columns) == ["key_high", "key_low", "value_high", "value_low", "state_mask", "flags", "more",
                                   "value_count", "relation", "crc32c"], frame.columns
    assert all(str(frame[c].dtype) == "uint64" for c in frame.columns[:4])
    assert (frame["crc32c"] > 0).sum() == count, count
    assert ((states["flags"] == 1) | (states["flags"] == 0) & (states["entry_count"] == 0)).all()  # 0: nobody uses it
    for run in f["runs"].attrs.get("runs", []):
        run = pandas.DataFrame(f["runs/entries_%d" % run["number"]][:])
        assert (run["crc32c"] > 0).all()
    if len(f["buckets/entries"]):
        table = pandas.read_hdf(sys.argv[2], "buckets/entries")
        assert table.equals(pandas.DataFrame(f["buckets/entries"][:])), table
    for name in ("buckets/entries", "buckets/more", "values/class_6", "values/nodes", "wal", "deletion_log"):
        assert f[name].attrs["description"] and f[name].attrs["units"], name
    fields = {m[1]: re.findall(r"^\| \d+ \| \d+ \| (\w+)", m[2], re.M)
              for m in re.finditer(r"^### ([^(]+) \(.*\n((?:\n*\|.*)+)", open(sys.argv[3]).read(), re.M)}
    for name, columns in {"hash entry": f["buckets/entries"].dtype, "more row": f["buckets/more"].dtype,
                          "set state": f["values/state"].dtype, "deletion": f["deletion_log"].dtype,
                          "log record": f["wal"].dtype["records"].base}.items():
        assert list(columns.names) == fields[name], (name, columns.names, fields[name])
    states = f["buckets/state"].dtype.names
    assert list(states) == fields["group page header"] + ["buckets", "tags"], states
    block = f["wal"][0]
    assert block["records"].dtype.names == ("version_op", "flags", "reserved", "checksum", "key_high", "key_low", "value_high", "value_low")
    assert f["wal"].dtype.itemsize == f["config"].attrs["wal_block"] and not block["reserved"].any()
with cidstore.open(sys.argv[2]) as store:
    frame = store.to_dataframe()
    assert [str(t) for t in frame.dtypes] == ["uint64"] * 4, frame.dtypes
    rows = [(a << 64 | b, c << 64 | d) for a, b, c, d in frame.to_numpy().tolist()]
    assert sorted(rows) == sorted(store.pairs())
    print(len(frame), len(frame.drop_duplicates()), store.config["format_version"])
`

func checkPandas(t *testing.T, path string, want []pair) {
	python := oracle.Python(t, "h5py", "numpy", "pandas", "tables")
	out := run(t, python, "-c", frames, filepath.Dir(reader(t)), path, filepath.Join("..", "..", "docs", "FORMAT.md"))
	if wanted := fmt.Sprintf("%d %d 2\n", len(want), len(want)); out != wanted {
		t.Errorf("to_dataframe: %q, want %q", out, wanted)
	}
}

func checkTools(t *testing.T, path string, small bool) {
	header := run(t, oracle.H5dump(t), "-H", path)
	for _, name := range []string{`GROUP "config"`, `ATTRIBUTE "hash_seed"`, `DATASET "entries"`, `DATASET "class_1024"`, `DATASET "wal"`} {
		if !strings.Contains(header, name) {
			t.Errorf("h5dump -H: no %s", name)
		}
	}
	if small {
		if all := run(t, oracle.H5dump(t), path); len(all) <= len(header) {
			t.Errorf("h5dump: %d bytes, h5dump -H %d", len(all), len(header))
		}
	}
	if list := run(t, oracle.H5ls(t), "-r", path); !strings.Contains(list, "/buckets/state") {
		t.Errorf("h5ls: no /buckets/state in\n%s", list)
	}
	// What HDF5 cannot account for belongs to this module: the slots, the chunk
	// maps, the free space. HDF5 counts it, and it never exceeds the file.
	stat := run(t, oracle.H5stat(t), path)
	if figure(t, stat, "Total # of objects with attributes") == 0 || figure(t, stat, "Max. # of attributes to objects") < 20 {
		t.Errorf("h5stat sees no attributes:\n%s", stat)
	}
	unaccounted, total := figure(t, stat, "Unaccounted space"), figure(t, stat, "Total space")
	if unaccounted < 2*4096 || unaccounted > total {
		t.Errorf("h5stat: %d bytes unaccounted of %d", unaccounted, total)
	}
}

// figure returns the number after a name in what h5stat prints.
func figure(t *testing.T, stat, name string) int {
	t.Helper()
	match := regexp.MustCompile(regexp.QuoteMeta(name) + `: (\d+)`).FindStringSubmatch(stat)
	if match == nil {
		t.Fatalf("h5stat says no %q:\n%s", name, stat)
	}
	n, err := strconv.Atoi(match[1])
	must(t, err)
	return n
}

// checkRepack copies the file with HDF5, object by object. What the copy lacks,
// HDF5 did not see.
func checkRepack(t *testing.T, path string, small bool, want []pair) {
	repack, diff, stat := oracle.H5repack(t), oracle.H5diff(t), oracle.H5stat(t)
	packed := filepath.Join(t.TempDir(), "packed.h5")
	run(t, repack, path, packed)
	objects := []string{""} // all
	if !small {
		objects = []string{"/buckets/state", "/values/state"}
	}
	for _, object := range objects {
		for line := range strings.Lines(run(t, diff, slices.DeleteFunc([]string{"-c", path, packed, object}, isEmpty)...)) {
			if !strings.Contains(line, "is an empty dataset") {
				t.Errorf("h5diff %s: %s", object, line)
			}
		}
	}
	const attributes = "Total # of objects with attributes"
	if a, b := figure(t, run(t, stat, path), attributes), figure(t, run(t, stat, packed), attributes); a != b || a == 0 {
		t.Errorf("%d attributes, %d after h5repack", a, b)
	}
	samePairs(t, "cidstore.py on the repacked file", parsePairs(t, run(t, oracle.H5py(t), reader(t), packed)), want)
}

func isEmpty(s string) bool { return s == "" }

// wasm prints what HDF5 2.0 sees of /config and how many entries it reads.
const wasm = `
const h5 = await import(process.argv[1]); await h5.ready;
const f = new h5.File(process.argv[2], "r");
const a = f.get("/config").attrs;
console.log(Object.keys(a).length, a.format_version.value, a.hash_seed.value.length, a.file_uuid.value.length, a.split_threshold.value);
const state = f.get("/buckets/state"), entries = f.get("/buckets/entries");
let read = 0;
const size = entries.shape[0] / state.shape[0], groups = Math.min(20, state.shape[0]);
for (let group = 0; group < groups; group++)
  read += entries.slice([[group * size, (group + 1) * size]]).length;
console.log(read, groups * size);
f.close();
`

func checkH5wasm(t *testing.T, path string) {
	node, module := oracle.H5wasm(t)
	out := run(t, node, "--input-type=module", "-e", wasm, module, path)
	var attributes, version, seed, uuid, threshold, read, want int
	if _, err := fmt.Sscan(out, &attributes, &version, &seed, &uuid, &threshold, &read, &want); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if attributes < 20 || version != 2 || seed != 2 || uuid != 16 || threshold < 2 || read != want || read == 0 {
		t.Errorf("h5wasm: %s", out)
	}
}
