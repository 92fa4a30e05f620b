// Reads the file of TestForeignReaders by h5wasm. A failed read throws nothing: values are compared.
const [module, path] = process.argv.slice(2);
const { default: h5wasm } = await import(module);
await h5wasm.ready;
const f = new h5wasm.File(path, "r");
const expect = (what, got, want) => {
  const text = v => JSON.stringify(v, (_, x) => typeof x === "bigint" ? Number(x) : x);
  if (text(got) !== text(want)) throw new Error(`${what}: ${text(got)}, want ${text(want)}`);
};
const numbers = Array.from({ length: 35 }, (_, i) => i);
for (const type of ["u8", "i16", "u32", "i64", "f32", "f64"]) {
  for (const kind of ["piece", "chunked", "packed"]) {
    const d = f.get(`numbers/${type}/${kind}`);
    expect(d.path, d.shape, [7, 5]);
    expect(d.path, Array.from(d.value), numbers);
  }
}
expect("colors", [Array.from(f.get("colors").value), f.get("colors").metadata.enum_type?.members], [[1, -3, 9, 1], { red: 1, blue: -3 }]);
expect("scalar", f.get("scalar").value, 2.5);
expect("texts", f.get("texts").value, ["ä", "six by", ""]);
const table = f.get("table").value;
expect("table", [table.length, table[9][0]], [50, 9]);
expect("sum", Array.from(f.get("wild").value).reduce((a, b) => a + b, 0), f.get("wild").attrs["sum"].value);
console.log("good", h5wasm.H5get_libversion?.() ?? "");
