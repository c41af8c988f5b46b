package csisocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/klog/v2"
)

const (
	dirMode    = 0o750
	socketMode = 0o660

	newSuffix    = ".new" // of the socket file until its mode is set
	probeTimeout = time.Second
)

// listen opens the endpoint. The returned function closes it and removes the socket file.
func listen(ctx context.Context, e endpoint) (net.Listener, func(), error) {
	if e.network != "unix" {
		l, err := new(net.ListenConfig).Listen(ctx, e.network, e.address)
		if err != nil {
			return nil, nil, err
		}
		return l, func() { _ = l.Close() }, nil
	}
	if err := os.MkdirAll(filepath.Dir(e.address), dirMode); err != nil {
		return nil, nil, err
	}
	if err := checkStale(ctx, e.address); err != nil {
		return nil, nil, err
	}
	return listenUnix(e.address)
}

// checkStale makes sure that nothing is lost when the file is replaced: it is a socket on which nobody listens.
func checkStale(ctx context.Context, file string) error {
	info, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket", file)
	}
	dialer := net.Dialer{Timeout: probeTimeout}
	conn, err := dialer.DialContext(ctx, "unix", file)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_ = conn.Close()
	}
	return fmt.Errorf("socket %s is in use by another process", file)
}

// listenUnix binds beside the final name and moves the socket there once its mode is set, so that nobody can connect
// under a wider mode, and a stale file is replaced in one step.
func listenUnix(file string) (net.Listener, func(), error) {
	aside := file + newSuffix
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, nil, err
	}
	l.SetUnlinkOnClose(false) // by its name it could be somebody else's by then
	info, err := publish(aside, file)
	if err != nil {
		_ = l.Close()
		return nil, nil, errors.Join(err, os.Remove(aside))
	}
	return l, func() {
		// First the file, so that nobody finds a socket on which nobody listens.
		if now, err := os.Lstat(file); err == nil && os.SameFile(info, now) {
			if err := os.Remove(file); err != nil {
				klog.ErrorS(err, "CSI socket file not removed", "file", file)
			}
		}
		_ = l.Close()
	}, nil
}

func publish(aside, file string) (fs.FileInfo, error) {
	if err := os.Chmod(aside, socketMode); err != nil {
		return nil, err
	}
	info, err := os.Lstat(aside)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(aside, file)
}
