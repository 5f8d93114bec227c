package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// disk is a file system of its own that can be full.
type disk struct{ dir string }

// newDisk makes one of so many MiB.
func newDisk(dir string, size int) (*disk, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%dm", size)); err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	return &disk{dir}, nil
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

// fill takes all the room that is left.
func (d *disk) fill() error {
	f, err := os.Create(d.filler())
	if err != nil {
		return err
	}
	block := make([]byte, 1<<16)
	for err == nil {
		if _, err = f.Write(block); err != nil && len(block) > 1 {
			block, err = block[:len(block)/2], nil
		}
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

func (d *disk) empty() error { return os.Remove(d.filler()) }

func (d *disk) close() error { return syscall.Unmount(d.dir, syscall.MNT_DETACH) }
