package valueset_test

import (
	"fmt"

	"github.com/cidstore/cidstore/keys"
	"github.com/cidstore/cidstore/valueset"
)

// The fifth value promotes a set, a removal leaves a tombstone, and a set of few values can
// be demoted. This set is changed only to see the result; Writer.Save writes one to a file.
func ExampleSet() {
	set := new(valueset.Table).Evaluator().Empty(keys.FromString("dog"))
	for v := range uint64(5) {
		fmt.Println(set.Add(keys.FromUint64(v)), set.IsSpilled())
	}
	fmt.Println(set.Remove(keys.FromUint64(0)), set.TombstoneCount())
	fmt.Println(set.Compact(), set.TombstoneCount(), set.Exists())
	fmt.Println(set.Demote())
	values, err := set.Values()
	fmt.Println(len(values), err, set.Exists())
	fmt.Println(set.Promote(), set.Exists())
	// Output:
	// <nil> false
	// <nil> false
	// <nil> false
	// <nil> false
	// <nil> true
	// <nil> 1
	// <nil> 0 true
	// true <nil>
	// 4 <nil> false
	// <nil> true
}
