package vfs

import (
	"bytes"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// shapeFD does not ask for the file's times, as fstat does. A kernel that was asked for
// them gives the next write a new time, and a sync of that write then writes the inode too.
func shapeFD(fd uintptr) (size int64, links uint64, err error) {
	var st unix.Statx_t
	err = retry(func() error {
		return unix.Statx(int(fd), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_NLINK, &st)
	})
	if err != nil { // an old kernel, or a sandbox that does not know the call
		return fstatShape(fd)
	}
	return int64(st.Size), uint64(st.Nlink), nil
}

// localFS are the file systems whose locks and syncs are this kernel's own, by
// the f_type of statfs(2).
var localFS = map[uint32]string{
	unix.EXT4_SUPER_MAGIC:      "ext4", // ext2 and ext3 too
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.BCACHEFS_SUPER_MAGIC:  "bcachefs",
	unix.NILFS_SUPER_MAGIC:     "nilfs2",
	unix.REISERFS_SUPER_MAGIC:  "reiserfs",
	unix.MSDOS_SUPER_MAGIC:     "vfat",
	unix.EXFAT_SUPER_MAGIC:     "exfat",
	unix.JFFS2_SUPER_MAGIC:     "jffs2",
	unix.ECRYPTFS_SUPER_MAGIC:  "ecryptfs",
	unix.HUGETLBFS_MAGIC:       "hugetlbfs",
	unix.SQUASHFS_MAGIC:        "squashfs",
	unix.ISOFS_SUPER_MAGIC:     "iso9660",
	unix.UDF_SUPER_MAGIC:       "udf",
	0x2fc12fc1:                 "zfs",
	0x3153464a:                 "jfs",
	0x24051905:                 "ubifs",
	0x5346544e:                 "ntfs",
	0x7366746e:                 "ntfs3",
	0x482b:                     "hfsplus",
	0x61756673:                 "aufs",
	0xe0f5e1e2:                 "erofs",
}

// remoteFS are listed for their names in messages; what is in neither table counts
// as remote too.
var remoteFS = map[uint32]string{
	unix.NFS_SUPER_MAGIC:   "nfs",
	unix.SMB_SUPER_MAGIC:   "smb",
	unix.SMB2_SUPER_MAGIC:  "smb2",
	unix.CIFS_SUPER_MAGIC:  "cifs",
	unix.V9FS_MAGIC:        "9p",
	unix.CEPH_SUPER_MAGIC:  "ceph",
	unix.AFS_SUPER_MAGIC:   "afs",
	unix.AFS_FS_MAGIC:      "afs",
	unix.CODA_SUPER_MAGIC:  "coda",
	unix.NCP_SUPER_MAGIC:   "ncp",
	unix.OCFS2_SUPER_MAGIC: "ocfs2",
	0x01161970:             "gfs2",
	0x0bd00bd0:             "lustre",
	0x47504653:             "gpfs",
	0x19830326:             "beegfs",
	0x786f4256:             "vboxsf",
}

func fillFileSystem(info *Info, sfs *unix.Statfs_t) {
	info.ReadOnly = sfs.Flags&unix.ST_RDONLY != 0
	nameFileSystem(info, uint32(sfs.Type)) // 32 bits on every machine, sign-extended on some
}

func nameFileSystem(info *Info, magic uint32) {
	if magic == unix.FUSE_SUPER_MAGIC {
		table, _ := os.ReadFile("/proc/self/mountinfo") // without it the type is not known
		info.FileSystem = mountType(table, info.Device)
		// A user-space driver over a block device of this machine (NTFS, exFAT);
		// any other may be a network file system.
		info.Network = info.FileSystem != "fuseblk"
		return
	}
	if name, ok := localFS[magic]; ok {
		info.FileSystem = name
		return
	}
	info.Network = true
	info.FileSystem = remoteFS[magic]
	if info.FileSystem == "" {
		info.FileSystem = fmt.Sprintf("unknown (%#x)", magic)
	}
}

// mountType finds the type under which the user-space file system dev is mounted, such as
// "fuseblk" or "fuse.sshfs"; "fuse" if it is not known.
func mountType(table []byte, dev uint64) string {
	id := fmt.Appendf(nil, "%d:%d", unix.Major(dev), unix.Minor(dev))
	for line := range bytes.Lines(table) {
		// 36 35 98:0 /root /mount options optional… - type source options
		before, after, ok := bytes.Cut(line, []byte(" - "))
		if fields := bytes.Fields(before); !ok || len(fields) < 3 || !bytes.Equal(fields[2], id) {
			continue
		}
		if fields := bytes.Fields(after); len(fields) > 0 {
			return string(fields[0])
		}
	}
	return "fuse"
}
