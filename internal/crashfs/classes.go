package crashfs

import "slices"

// Class is one way in which a crash loses what was not synced.
type Class int

const (
	Issued        Class = iota // everything issued is on the disk
	Synced                     // only what was synced
	OneSector                  // all sectors except one, and one sector alone
	AllSubsets                 // every choice of a version for each sector, if these are few
	RandomSubsets              // otherwise: random choices of versions, sizes and names
	Garbage                    // sectors in flight are zero, garbage, or half old and half new
	Sizes                      // sizes of files old or new, whatever their bytes
	Names                      // some creates, renames and removes are missing
	classCount    = iota
)

var allClasses = [classCount]Class{Issued, Synced, OneSector, AllSubsets, RandomSubsets, Garbage, Sizes, Names}

var classNames = [classCount]string{
	"issued", "synced", "one sector", "all subsets", "random subsets", "garbage", "sizes", "names",
}

func (c Class) String() string { return classNames[c] }

// family is the candidates of one class at one cut. build(i) puts the i-th of count
// together in e.disk.
type family struct {
	class  Class
	count  int
	build  func(i int)
	chosen []int
}

// families lists the candidates at a cut and samples them down to the bound.
func (e *Enumeration) families(cut int) []family {
	k, pending, sizes, subsets := len(e.slots), len(e.replay.names.pending), e.sizeCount(), e.subsetCount()
	var random, garbage, names int
	if subsets == 0 && k+pending+sizes > 0 {
		random = e.plan.Random
	}
	if k > 0 {
		garbage = 2*k*damages + e.plan.Random
	}
	if pending > 0 {
		names = 2 * (pending + 1)
	}
	families := slices.DeleteFunc([]family{
		{class: Issued, count: 1, build: func(int) { e.issued() }},
		{class: Synced, count: 1, build: func(int) { e.synced() }},
		{class: OneSector, count: 2 * k, build: e.oneSector},
		{class: AllSubsets, count: subsets, build: e.subset},
		{class: RandomSubsets, count: random, build: func(i int) { e.randomSubset(cut, i) }},
		{class: Garbage, count: garbage, build: func(i int) { e.garbage(cut, i) }},
		{class: Sizes, count: sizes, build: e.size},
		{class: Names, count: names, build: e.nameChange},
	}, func(f family) bool { return !slices.Contains(e.plan.Classes, f.class) })
	e.sample(cut, families)
	return families
}

// sample chooses the candidates to build: all, or as many of each class as the
// bound allows, the small classes first.
func (e *Enumeration) sample(cut int, families []family) {
	left := e.plan.PerCut
	bySize := slices.Clone(families)
	slices.SortStableFunc(bySize, func(a, b family) int { return a.count - b.count })
	quota := map[Class]int{}
	for n, f := range bySize {
		quota[f.class] = f.count
		if e.plan.PerCut > 0 {
			quota[f.class] = min(f.count, (left+len(bySize)-n-1)/(len(bySize)-n))
			left -= quota[f.class]
		}
	}
	for n := range families {
		f := &families[n]
		if quota[f.class] == f.count {
			for i := range f.count {
				f.chosen = append(f.chosen, i)
			}
			continue
		}
		// Floyd's sample without replacement.
		rng, taken := e.random(cut, int(f.class), sampling), map[int]bool{}
		for top := f.count - quota[f.class]; top < f.count; top++ {
			i := rng.IntN(top + 1)
			if taken[i] {
				i = top
			}
			taken[i] = true
			f.chosen = append(f.chosen, i)
		}
		slices.Sort(f.chosen)
	}
}

// Purposes of random sources other than classes.
const (
	sampling = classCount + iota
	together // of damages
)

// damages is how many ways a sector in flight can be damaged.
const damages = pickZero - pickEnd

func (e *Enumeration) oneSector(i int) {
	k := len(e.slots)
	e.issued()
	if i < k {
		e.disk.picks[i] = 0
		return
	}
	newest := e.disk.picks[i-k]
	clear(e.disk.picks)
	e.disk.picks[i-k] = newest
}

// subsetCount is the number of ways to choose a version for each slot, 0 if there
// are none or too many.
func (e *Enumeration) subsetCount() int {
	count := 1
	for i := range e.slots {
		count *= len(e.slots[i].versions)
		if count > 1<<e.plan.Subsets {
			return 0
		}
	}
	if count == 1 {
		return 0
	}
	return count
}

func (e *Enumeration) subset(i int) {
	e.issued()
	for n := range e.slots {
		versions := len(e.slots[n].versions)
		e.disk.picks[n] = i % versions
		i /= versions
	}
}

// randomSubset chooses at random how much of the disk is new, then each sector by
// itself.
func (e *Enumeration) randomSubset(cut, i int) {
	rng := e.random(cut, i, int(RandomSubsets))
	share := rng.Float64()
	e.issued()
	for n := range e.slots {
		switch versions := len(e.slots[n].versions); {
		case rng.Float64() >= share:
			e.disk.picks[n] = 0
		case rng.IntN(4) == 0: // a version in between
			e.disk.picks[n] = rng.IntN(versions)
		}
	}
	if i%2 == 0 {
		return // sizes and names as issued; otherwise most choices would be of files that do not exist
	}
	for n, ino := range e.files {
		e.disk.sizes[n] = sizeOption(ino, rng.IntN(1+len(ino.sizes)))
	}
	e.disk.names = rng.IntN(1 + len(e.replay.names.pending))
}

// garbage damages each sector in turn, on a disk that is otherwise new and on one
// that is old, then random sectors together.
func (e *Enumeration) garbage(cut, i int) {
	k := len(e.slots)
	e.issued()
	if i < 2*k*damages {
		if i >= k*damages {
			clear(e.disk.picks)
		}
		e.disk.picks[i%k] = pickZero - i/k%damages
		return
	}
	rng := e.random(cut, i, together)
	share := rng.Float64()
	for n := range e.slots {
		switch draw := rng.Float64(); {
		case draw < share/2:
			e.disk.picks[n] = pickZero - rng.IntN(damages)
		case draw < share:
			e.disk.picks[n] = 0
		}
	}
}

// sizeCount is the number of sizes that un-synced files may have, each on a disk
// with new bytes and one with old.
func (e *Enumeration) sizeCount() (count int) {
	for _, ino := range e.files {
		if len(ino.sizes) > 0 {
			count += 2 * (1 + len(ino.sizes))
		}
	}
	return count
}

func (e *Enumeration) size(i int) {
	e.issued()
	if i%2 == 1 {
		clear(e.disk.picks)
	}
	i /= 2
	for n, ino := range e.files {
		if len(ino.sizes) == 0 {
			continue
		}
		if i <= len(ino.sizes) {
			e.disk.sizes[n] = sizeOption(ino, i)
			return
		}
		i -= 1 + len(ino.sizes)
	}
}

// sizeOption is the i-th size that a file has had since it was synced.
func sizeOption(ino *inode, i int) int64 {
	if i == 0 {
		return ino.durable
	}
	return ino.sizes[i-1]
}

// nameChange puts the first changes of names on the disk, with new bytes and with
// old ones.
func (e *Enumeration) nameChange(i int) {
	e.issued()
	if i%2 == 1 {
		e.synced()
	}
	e.disk.names = i / 2
}
