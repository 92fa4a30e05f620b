package metrics_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cidstore/cidstore"
	"github.com/cidstore/cidstore/metrics"
)

// Two stores are in one registry, distinguished by a label.
func ExampleNewCollector() {
	dir, err := os.MkdirTemp("", "metrics")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	registry := prometheus.NewRegistry()
	for _, name := range []string{"words.h5", "links.h5"} {
		s, err := cidstore.Open(filepath.Join(dir, name), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer s.Close()
		registry.MustRegister(metrics.NewCollector(s, metrics.WithLabels(prometheus.Labels{"store": name})))
	}
	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range families {
		if f.GetName() == "cidstore_open" {
			for _, m := range f.Metric {
				fmt.Println(m.Label[0].GetValue(), m.Gauge.GetValue())
			}
		}
	}
	// Output:
	// links.h5 1
	// words.h5 1
}
