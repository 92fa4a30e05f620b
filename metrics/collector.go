// Package metrics exports the figures of a store, those of cidstore.Metrics, to
// Prometheus. docs/METRICS.md lists them.
package metrics

import (
	"maps"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/cidstore/cidstore"
)

// Option is an option of NewCollector.
type Option func(*collector)

// WithLabels gives all metrics of a collector the same labels. They distinguish the
// stores of one registry. They may have any name except those of the metrics' own
// labels, "operation" and "type".
func WithLabels(labels prometheus.Labels) Option {
	return func(c *collector) { c.labels = maps.Clone(labels) }
}

// NewCollector returns a collector of the figures of s. The caller registers it.
// With labels, several stores can be in one registry:
//
//	registry.MustRegister(metrics.NewCollector(s, metrics.WithLabels(prometheus.Labels{"path": path})))
//
// After Close of the store, counters stay as they are, and gauges are left out.
func NewCollector(s *cidstore.Store, options ...Option) prometheus.Collector {
	c := &collector{store: s}
	for _, option := range options {
		option(c)
	}
	for i := range families {
		f := &families[i]
		c.descs = append(c.descs, prometheus.NewDesc(f.fullName(), f.help, f.labelNames(), c.labels))
	}
	return c
}

type collector struct {
	store  *cidstore.Store
	labels prometheus.Labels
	descs  []*prometheus.Desc // of families
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	m := c.store.Metrics()
	c.send(&m, func(metric prometheus.Metric) { out <- metric })
}

// send makes the metrics of m.
func (c *collector) send(m *cidstore.Metrics, out func(prometheus.Metric)) {
	for i := range families {
		f, desc := &families[i], c.descs[i]
		if f.times != nil {
			out(histogram(desc, f.times(m), m.Opened))
			continue
		}
		f.samples(m, func(value float64, labels ...string) {
			metric, err := f.metric(desc, value, m.Opened, labels)
			out(orInvalid(desc, metric, err))
		})
	}
}

// metric makes one metric of a family. Counters say when they began.
func (f *family) metric(desc *prometheus.Desc, value float64, began time.Time, labels []string) (prometheus.Metric, error) {
	if f.kind == counter {
		return prometheus.NewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, value, began, labels...)
	}
	return prometheus.NewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}

func orInvalid(desc *prometheus.Desc, metric prometheus.Metric, err error) prometheus.Metric {
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	return metric
}

// The bounds of classic histograms are powers of two, from 2^leastBound seconds, 0.24 µs,
// to 2^mostBound, 64 s.
const leastBound, mostBound = -22, 6

// histogram is a native and a classic histogram in one; a server takes what it can.
func histogram(desc *prometheus.Desc, d *cidstore.Durations, began time.Time) prometheus.Metric {
	counts, classic, below := map[int]int64{}, map[float64]uint64{}, d.Zero
	for i, n := range d.Buckets {
		number := i + cidstore.DurationFirst
		if n > 0 {
			counts[number] = int64(n)
		}
		below += n
		power := number >> cidstore.DurationSchema
		if power<<cidstore.DurationSchema == number && power >= leastBound && power <= mostBound {
			classic[math.Exp2(float64(power))] = below
		}
	}
	sum := d.Sum.Seconds()
	native, err := prometheus.NewConstNativeHistogram(desc, below, sum, counts, nil, d.Zero,
		cidstore.DurationSchema, cidstore.DurationZero, began)
	if err != nil {
		return prometheus.NewInvalidMetric(desc, err)
	}
	plain, err := prometheus.NewConstHistogram(desc, below, sum, classic)
	return orInvalid(desc, both{native, plain}, err)
}

// both is a native histogram with the buckets of a classic one.
type both struct {
	prometheus.Metric
	classic prometheus.Metric
}

// Write implements prometheus.Metric.
func (b both) Write(out *dto.Metric) error {
	var plain dto.Metric
	if err := b.classic.Write(&plain); err != nil {
		return err
	}
	if err := b.Metric.Write(out); err != nil {
		return err
	}
	out.Histogram.Bucket = plain.Histogram.Bucket
	return nil
}
