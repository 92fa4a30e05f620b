// Package valueset keeps the values of one key: a set of identifiers.
//
// Terms:
//
//	inline      up to Inline values, ascending, kept in the key's hash entry
//	spilled     the values have a set of their own in the file, with a set id
//	state       the set's row of /values/state: owner, counts, place, checksum
//	row         a spilled set of up to maxRow values: one chunk of a size class
//	tree        a larger one: a B+tree of nodes, each a chunk of /values/nodes
//	live        a value of the set
//	tombstone   a value deleted from a spilled set and not yet compacted away
//	promote     turn an inline set into a spilled one; demote is the opposite
//
// A key's set moves between the forms:
//
//	       fifth value            more than maxRow
//	inline ───────────▶ spilled row ───────────▶ spilled tree
//	   ▲                    │  ▲                      │
//	   └──── demote (≤ 4) ──┘  └──── compact ─────────┘
//
// A tree, three leaves under a root:
//
//	             ┌ child {first value, node, address, counts, commit, crc} ┐
//	state ──▶ root: │ child 0 │ child 1 │ child 2 │
//	                  │         │         └──▶ leaf: live values ascending, tombstones ascending, zeros
//	                  ▼         ▼
//
// Invariants:
//
//	V1  live values ascend and differ; so do tombstones; no value is both;
//	V2  a spilled set has at least one live value; an empty one does not exist;
//	V3  up to maxRow values, tombstones included, are a row, in the smallest class
//	    that holds them; more are a tree;
//	V4  all values below a child are at least its separator and less than the
//	    next child's; a separator is the first value below its child when written;
//	V5  a child's counts are those of the values below it, and not both zero;
//	V6  what is read is checked: a row or node has the checksum that its state or
//	    parent gives, seeded with file, id and commit, before a value of it is used;
//	V7  a committed row or node is never written again; a node keeps its number
//	    when it moves, and a number of a node that is gone is not used again.
//
// A Table reads the sets of one View and is safe for concurrent use. A Writer
// changes them in one Tx: each key's operations are collected in a Set, which
// evaluates them in order, and Save writes the outcome.
package valueset
