package keys_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cidstore/cidstore/keys"
)

func ExampleFromString() {
	e := keys.FromString("hello")
	fmt.Println(e)
	fmt.Println(e.UUID())
	// Output:
	// 9342d47a1bab57099869c840b2eac501
	// 9342d47a-1bab-5709-9869-c840b2eac501
}

func ExampleParse() {
	for _, text := range []string{"0x2a", "9342d47a-1bab-5709-9869-c840b2eac501", "hello"} {
		fmt.Println(keys.Parse(text))
	}
	// Output:
	// 0000000000000000000000000000002a <nil>
	// 9342d47a1bab57099869c840b2eac501 <nil>
	// 00000000000000000000000000000000 keys: "hello" is no identifier: want 32 hexadecimal digits, a UUID (plain, in braces or after urn:uuid:), or 0x and 1 to 32 digits
}

func ExampleNewFrom() {
	e, err := keys.NewFrom(strings.NewReader("sixteen bytes ok"))
	fmt.Println(e.UUID(), err)
	// Output: 73697874-6565-4e20-a279-746573206f6b <nil>
}

func ExampleE_MarshalText() {
	text, err := json.Marshal(map[keys.E]keys.E{keys.FromUint64(1): keys.FromUint64(2)})
	fmt.Println(string(text), err)
	// Output: {"00000000000000000000000000000001":"00000000000000000000000000000002"} <nil>
}

func ExampleHasher() {
	hasher := keys.NewHasher([2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908})
	fmt.Printf("%#x\n", hasher.Hash(keys.E{High: 0x0001020304050607, Low: 0x08090a0b0c0d0e0f}))
	// Output: 0x3f2acc7f57c29bdb
}

// An identifier has two halves, and 16 bytes in an HDF5 file.
func ExampleE_AppendHDF5() {
	e := keys.E{High: 1, Low: 0x2a}
	data := e.AppendHDF5(nil)
	fmt.Printf("%x\n", data)
	back, err := keys.FromHDF5(data)
	fmt.Println(back.High, back.Low, err)
	// Output:
	// 01000000000000002a00000000000000
	// 1 42 <nil>
}
