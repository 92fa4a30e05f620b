package hdf5io

import (
	"unsafe"

	"github.com/cidstore/cidstore/vfs"
)

const (
	// leastWindow is the address space set aside for a small file, in bytes.
	leastWindow = 16 << 20
	// windowRoom is how many times the size of the file is set aside.
	windowRoom = 2
)

// window is one mapping of the file. When the file outgrows it, the next View gets
// a larger one. Views are dropped in the order of their commits, and none has an
// older window than the View before it. So a window is closed when the last View
// that has it is dropped: by then, nobody uses what the readers of that View, or of
// earlier ones, were given.
type window struct {
	mapping vfs.Mapping
	data    []byte // what the first View with this window sees; it covers all that older windows do
}

// mapView lets v see the file through the present window, or through a new one if
// the file has outgrown that. If there is no address space for it, v sees as much
// as the View before it, and reads the rest with ReadAt.
func (f *File) mapView(v *View) {
	if f.options.NoMmap {
		return
	}
	size := int64(v.slot.endOfFile)
	now := f.window.Load()
	if now != nil {
		v.window = now
		var err error
		if v.data, err = now.mapping.View(0, size); err == nil {
			return
		}
	}
	w, err := f.openWindow(size)
	if err != nil {
		if now != nil {
			before := f.view.Load().data
			v.data = before[:min(int64(len(before)), size)]
		}
		return
	}
	v.window, v.data = w, w.data
	f.window.Store(w)
	for _, m := range v.maps {
		for p := range m.pages() {
			p.show(w.data)
		}
	}
}

// openWindow maps the file. Its first size bytes must be seen.
func (f *File) openWindow(size int64) (*window, error) {
	m, err := f.file.Map(max(leastWindow, size*windowRoom))
	if err != nil {
		return nil, err
	}
	data, err := m.View(0, size)
	if err != nil {
		_ = m.Close() // no View has it
		return nil, err
	}
	return &window{m, data}, nil
}

// closeWindows closes the windows of views that are no longer read, except the
// window kept.
func closeWindows(views []*View, kept *window) (err error) {
	for i, v := range views {
		if v.window == nil || v.window == kept || i+1 < len(views) && views[i+1].window == v.window {
			continue
		}
		if closeErr := v.window.mapping.Close(); err == nil {
			err = closeErr
		}
	}
	return err
}

// show makes a page that has been loaded point into data, the newest window. A page that
// is being loaded looks for that window itself.
func (p *Page) show(data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bytes.Load() != nil && p.address+uint64(p.size) <= uint64(len(data)) {
		p.bytes.Store(unsafe.SliceData(data[p.address:]))
	}
}

// newest returns the bytes of p in the newest window, or stored if that does not
// have them.
func (f *File) newest(p *Page, stored []byte) []byte {
	if w := f.window.Load(); w != nil && p.address+uint64(p.size) <= uint64(len(w.data)) {
		return w.data[p.address:][:p.size:p.size]
	}
	return stored
}
