// Writes one file for each version of the format that HDF5 2.0 knows, with values
// that the test can calculate: h5wasm.mjs MODULE DIRECTORY.
const [module, directory] = process.argv.slice(2);
const h5 = await import(module);
await h5.ready;

for (const libver of ["earliest", "v108", "v110", "v112", "v114", "v200", "latest"]) {
  const f = new h5.File(`${directory}/${libver}.h5`, "w", { libver: [libver, "latest"] });
  const g = f.create_group("data");
  const data = Int32Array.from({ length: 600 }, (_, i) => i * i);
  const shapes = {
    whole: {}, single: { chunks: [600] }, fixed: { chunks: [7] }, extensible: { chunks: [7], maxshape: [null] },
    fixed2: { shape: [30, 20], chunks: [4, 7] }, extensible2: { shape: [30, 20], chunks: [4, 7], maxshape: [null, 20] },
    tree: { shape: [30, 20], chunks: [4, 7], maxshape: [null, null] },
  };
  for (const [name, options] of Object.entries(shapes)) {
    g.create_dataset({ name, data, shape: [600], dtype: "<i", ...options });
    if (options.chunks) {
      g.create_dataset({ name: name + "gzip", data, shape: [600], dtype: "<i", ...options, compression: 4 });
    }
  }
  const table = new Map([["n", [1, 2, 3]], ["x", [0.5, 1.5, 2.5]], ["in", new Map([["a", [1, 2, 3]], ["b", [-4, -5, -6]]])], ["name", ["one", "two", "three"]]]);
  g.create_dataset({ name: "table", data: table, shape: [3], dtype: [["n", "<I"], ["x", "<d"], ["in", [["a", "<h"], ["b", "<h"]]], ["name", "A6"]] });
  g.create_dataset({ name: "strings", data: ["eins", "zwei", "ä"] });
  for (let i = 0; i < 20; i++) {
    f.create_attribute(`attribute ${i}`, i, null, "<q");
    f.create_soft_link(`target ${i}`, `link ${i}`);
  }
  g.create_dataset({ name: "reference", data: [f.get("data").create_reference()], shape: [1], dtype: "Reference" });
  f.close();
}
