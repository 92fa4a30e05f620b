package ecc_test

import (
	"fmt"

	"github.com/cidstore/cidstore/ecc"
)

func ExampleDecode() {
	code := ecc.Encode(0b0111)
	fmt.Println(ecc.Decode(code))
	fmt.Println(ecc.Decode(code ^ 0x10))
	fmt.Println(ecc.Decode(code ^ 0x30))
	// Output:
	// 7 ok
	// 7 corrected
	// 0 uncorrectable
}

func ExampleMask() {
	damaged := ecc.MaskOf(3) ^ 1
	fmt.Println(damaged.Count())
	word, status := damaged.Correct()
	fmt.Println(word == ecc.MaskOf(3), status)
	// Output:
	// 3 true
	// true corrected
}
