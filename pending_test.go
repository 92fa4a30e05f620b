package cidstore

import (
	"reflect"
	"testing"
)

// TestOperationIsALineOfTheCache: opBytes and the speed of lookups count on it.
func TestOperationIsALineOfTheCache(t *testing.T) {
	if size := reflect.TypeFor[op]().Size(); size != 64 {
		t.Errorf("an operation takes %d bytes, want 64", size)
	}
}
