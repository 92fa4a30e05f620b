package vfs

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/windows"
)

// shareAll lets others rename and remove an open file, which os.OpenFile does not.
const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE

func openFile(name string, flag int, _ fs.FileMode) (*os.File, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	access := uint32(windows.GENERIC_READ)
	switch {
	case flag&os.O_RDWR != 0:
		access |= windows.GENERIC_WRITE
	case flag&os.O_WRONLY != 0:
		access = windows.GENERIC_WRITE
	}
	how := uint32(windows.OPEN_EXISTING)
	switch {
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		how = windows.CREATE_NEW
	case flag&os.O_CREATE != 0:
		how = windows.OPEN_ALWAYS
	}
	h, err := windows.CreateFile(path, access, shareAll, nil, how, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	f := os.NewFile(uintptr(h), name)
	if flag&os.O_TRUNC != 0 {
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

func datasync(fd uintptr) error { return windows.FlushFileBuffers(windows.Handle(fd)) }

// syncDir does nothing: NTFS keeps its names in a journal of its own, and there is
// no call.
func syncDir(dir string) error {
	_, err := os.Stat(dir)
	return err
}

func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED) || errors.Is(err, windows.ERROR_FILE_TOO_LARGE)
}

// Map always fails. On this system a view has the size that the file had, does not
// grow with it, and keeps it from being cut. To read instead costs less than to
// work around that.
func (f *osFile) Map(int64) (Mapping, error) { return nil, pathError("map", f.Name(), ErrNoMap) }

func statPath(name string) (Info, error) {
	path, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return Info{}, err
	}
	h, err := windows.CreateFile(path, 0, shareAll, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return Info{}, err
	}
	defer windows.CloseHandle(h)
	st, err := os.Stat(name)
	if err != nil {
		return Info{}, errors.Unwrap(err)
	}
	info := Info{Size: st.Size(), Mode: st.Mode()}
	return info, statFD(uintptr(h), st, &info)
}

func shapeFD(fd uintptr) (size int64, links uint64, err error) {
	var by windows.ByHandleFileInformation
	err = windows.GetFileInformationByHandle(windows.Handle(fd), &by)
	return int64(by.FileSizeHigh)<<32 | int64(by.FileSizeLow), uint64(by.NumberOfLinks), err
}

func statFD(fd uintptr, _ fs.FileInfo, info *Info) error {
	h := windows.Handle(fd)
	var by windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &by); err != nil {
		return err
	}
	info.Device = uint64(by.VolumeSerialNumber)
	info.Inode = uint64(by.FileIndexHigh)<<32 | uint64(by.FileIndexLow)

	var system [windows.MAX_PATH + 1]uint16
	var flags uint32
	err := windows.GetVolumeInformationByHandle(h, nil, 0, nil, nil, &flags, &system[0], uint32(len(system)))
	if err != nil {
		info.Network = true // not known to be local
		return nil
	}
	info.FileSystem = windows.UTF16ToString(system[:])
	info.ReadOnly = flags&windows.FILE_READ_ONLY_VOLUME != 0

	// The final path of a file on another machine begins like this, whichever drive
	// letter led there.
	var path [windows.MAX_LONG_PATH]uint16
	n, err := windows.GetFinalPathNameByHandle(h, &path[0], uint32(len(path)), 0)
	info.Network = err != nil || int(n) > len(path) || strings.HasPrefix(windows.UTF16ToString(path[:n]), `\\?\UNC\`)
	return nil
}
