package cidstore

import (
	"math/rand/v2"
	"testing"
)

// TestCheckInParts: a check by several goroutines counts what one counts, and finds a
// flipped bit wherever one finds it.
func TestCheckInParts(t *testing.T) {
	c := everyForm(t, nil)
	inParts := func(parts int) *CheckReport {
		v := mustGet(c.store.Snapshot())(t)
		defer v.Close()
		report := new(CheckReport)
		check := newCheck(t.Context(), v.view, report)
		last := int64(0)
		err := check.inParts(parts, func(done, total int64) {
			if done < last || done > total {
				t.Errorf("progress %d of %d after %d", done, total, last)
			}
			last = done
		})
		if err != nil {
			report.add(err)
		}
		check.groups.Finish()
		if report.DefectCount == 0 && last != v.view.EndOfFile() {
			t.Errorf("progress ended at %d of %d", last, v.view.EndOfFile())
		}
		return report
	}
	whole, groups := inParts(1), c.store.state.Load().view.record.groups()
	if whole.DefectCount != 0 || whole.Groups != groups || groups < 3 {
		t.Fatalf("%d of %d groups, %v", whole.Groups, groups, whole.Defects)
	}
	random := rand.New(rand.NewPCG(5, 6))
	found := 0
	for range 60 {
		at, bit := random.Int64N(c.store.state.Load().view.EndOfFile()), byte(1)<<random.IntN(8)
		c.flip(at, bit)
		one := inParts(1)
		if one.DefectCount > 0 {
			found++
		}
		for _, parts := range []int{2, 7} {
			several := inParts(parts)
			if (several.DefectCount == 0) != (one.DefectCount == 0) || several.Figures != one.Figures {
				t.Errorf("bit %#x at %#x: %d parts found %+v, %v; one %+v, %v", bit, at, parts, several.Figures, several.Defects, one.Figures, one.Defects)
			}
		}
		c.flip(at, bit)
	}
	t.Logf("%d groups, %d of 60 flips were found", groups, found)
	if found == 0 {
		t.Fatal("nothing was damaged")
	}
	c.close()
}
