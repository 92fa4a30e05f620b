package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// table is the list of docs/METRICS.md.
func table() string {
	var b strings.Builder
	b.WriteString("| name | type | unit | label | meaning |\n|---|---|---|---|---|\n")
	for i := range families {
		f := &families[i]
		unit := ""
		for _, u := range []string{"seconds", "bytes"} {
			if strings.HasSuffix(strings.TrimSuffix(f.name, "_total"), "_"+u) {
				unit = u
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.fullName(), f.kind, unit, f.label, f.help)
	}
	return b.String()
}

// nameIn finds names of metrics in a text.
var nameIn = regexp.MustCompile(`cidstore_[a-z0-9_]+`)

// known maps each name that a server can be asked for to its type.
func known() map[string]kind {
	names := map[string]kind{}
	for i := range families {
		f := &families[i]
		if f.kind != distribution {
			names[f.fullName()] = f.kind
			continue
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			names[f.fullName()+suffix] = counter
		}
	}
	return names
}

// TestDescribesEverything: what the collector describes is what the table says.
func TestDescribesEverything(t *testing.T) {
	out := make(chan *prometheus.Desc, 1000)
	NewCollector(small(t)).Describe(out)
	close(out)
	described := 0
	for d := range out {
		name := nameIn.FindString(d.String())
		if !strings.Contains(table(), "| `"+name+"` |") {
			t.Errorf("%s is described, and not in the table", name)
		}
		described++
	}
	if described != len(families) {
		t.Errorf("%d names are described, want %d", described, len(families))
	}
}

// TestDocumentListsEverything: docs/METRICS.md has the table, and no other names.
func TestDocumentListsEverything(t *testing.T) {
	path := filepath.Join("..", "docs", "METRICS.md")
	data, err := os.ReadFile(path)
	must(t, err)
	text, _, found := strings.Cut(string(data), "| name |")
	if !found {
		t.Fatal("there is no table")
	}
	compareFile(t, path, text+table())
	names := known()
	for _, name := range nameIn.FindAllString(text, -1) {
		if _, found := names[name]; !found {
			t.Errorf("%s is no metric", name)
		}
	}
}

// TestDashboardAsksForWhatThereIs: the queries of docs/grafana.json have only known
// names, and ask how fast counters rise.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "docs", "grafana.json"))
	must(t, err)
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	must(t, json.Unmarshal(data, &board))
	names := known()
	for _, name := range nameIn.FindAllString(string(data), -1) {
		if _, found := names[name]; !found {
			t.Errorf("%s is no metric", name)
		}
	}
	queries := 0
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q has %d queries", p.Title, len(p.Targets))
		}
		for _, target := range p.Targets {
			queries++
			for _, at := range nameIn.FindAllStringIndex(target.Expr, -1) {
				before, name := target.Expr[:at[0]], target.Expr[at[0]:at[1]]
				rising := strings.HasSuffix(before, "rate(") || strings.HasSuffix(before, "increase(")
				if rising != (names[name] == counter) {
					t.Errorf("panel %q: %s is a %s", p.Title, name, names[name])
				}
			}
		}
	}
	if queries < 15 {
		t.Errorf("%d queries", queries)
	}
}
