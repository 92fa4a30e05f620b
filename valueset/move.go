package valueset

import "github.com/cidstore/cidstore/keys"

// Move moves the row of a set, or the nodes of its tree and those above them, if
// they are at the address from or after it. It is for sets that nothing else in the
// Tx changes; an unused one stays as it is.
func (w *Writer) Move(set uint64, from int64) error {
	s, used, err := w.base.At(set)
	if err != nil || !used {
		return err
	}
	least := uint64(max(from, 0))
	if !s.isTree() {
		return w.moveRow(s, least)
	}
	root, moved, err := w.moveNode(s, s.root(), int(s.state.depth), least)
	if err != nil || !moved {
		return err
	}
	st := s.state
	st.at, st.commit, st.crc = root.at, root.commit, root.crc
	return w.setState(set, &st)
}

func (w *Writer) moveRow(s Stored, from uint64) error {
	st := s.state
	if st.at+uint64(st.class)*keys.Size <= from {
		return nil
	}
	b, err := s.row()
	if err != nil {
		return err
	}
	if err := w.writeRow(&st, s.set, b); err != nil {
		return err
	}
	return w.setState(s.set, &st)
}

// moveNode moves what has to be moved of c and below it, and returns what its
// parent then says of c, which is level levels above the leaves.
func (w *Writer) moveNode(s Stored, c child, level int, from uint64) (_ child, moved bool, err error) {
	moved = c.at+nodeSize > from
	if level == 0 && !moved {
		return c, false, nil // a leaf that stays is not read
	}
	b, err := s.node(&c, level)
	if err != nil {
		return c, false, err
	}
	if level == 0 {
		c, err = w.writeNode(c, b)
		return c, true, err
	}
	kids, err := inner(b).children(&c)
	if err != nil {
		return c, false, err
	}
	for i := range kids {
		var below bool
		if kids[i], below, err = w.moveNode(s, kids[i], level-1, from); err != nil {
			return c, false, err
		}
		moved = moved || below
	}
	if !moved {
		return c, false, nil
	}
	separator := c.separator // that of a first child may be lower than its own first separator
	c, err = w.writeInner(c.node, kids)
	c.separator = separator
	return c, true, err
}
