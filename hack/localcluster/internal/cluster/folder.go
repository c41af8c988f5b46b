package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudcore-io/cloudcore/hack/localcluster/internal/pki"
)

const (
	// componentsGone bounds the wait for components that the kernel is ending; freeing their memory takes time.
	componentsGone = 10 * time.Second
	lockPoll       = 50 * time.Millisecond
)

// ErrRunning is wrapped by the error of Run for a folder in which a cluster runs already.
var ErrRunning = errors.New("a cluster runs in this folder already")

// auditPolicy records each call when it is answered, and watches also when they begin: the stage before that would
// double every line.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// folder is the absolute path of a cluster's folder.
type folder string

func (f folder) path(elem ...string) string {
	return filepath.Join(append([]string{string(f)}, elem...)...)
}

func (f folder) pki() string                   { return f.path("pki") }
func (f folder) etcdPKI() string               { return f.path("pki", "etcd") }
func (f folder) etcdData() string              { return f.path("etcd") }
func (f folder) adminConf() string             { return f.path("admin.conf") }
func (f folder) kubeconfig(name string) string { return f.path(name + ".conf") }
func (f folder) logOf(name string) string      { return f.path(name + ".log") }
func (f folder) auditPolicy() string           { return f.path("audit-policy.yaml") }
func (f folder) control() string               { return f.path("control") }

// prepare creates the folder and those in it that hold secrets.
func (f folder) prepare() error {
	for _, dir := range []string{string(f), f.pki(), f.etcdPKI(), f.etcdData()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create folder: %w", err)
		}
	}
	return nil
}

// lock takes the folder for this process. The lock ends with the process, whatever ends it.
func (f folder) lock() (unlock func(), err error) {
	file, err := openLocked(f.path("lock"))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrRunning
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f, err)
	}
	return func() { _ = file.Close() }, nil
}

// lockComponents returns a locked file for the components to inherit. It waits for those of a run that was killed: they
// die with it, but for a moment they still hold the database and the ports.
func (f folder) lockComponents(ctx context.Context) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, componentsGone,
		fmt.Errorf("not gone after %s", componentsGone))
	defer cancel()
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		file, err := openLocked(f.path("components.lock"))
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock components: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the components of the last run in %s: %w", f, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// openLocked opens file with an exclusive lock, which lasts until every process that has it open has closed it.
func openLocked(name string) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// lastPort returns the port that admin.conf names, 0 without that file.
func (f folder) lastPort() (int, error) {
	config, err := clientcmd.LoadFromFile(f.adminConf())
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the port of the last run: %w", err)
	}
	for _, cluster := range config.Clusters {
		server, err := url.Parse(cluster.Server)
		if err != nil {
			return 0, fmt.Errorf("read the port of the last run from %s: %w", f.adminConf(), err)
		}
		port, err := strconv.Atoi(server.Port())
		if err != nil {
			return 0, fmt.Errorf("read the port of the last run from %s: %w", f.adminConf(), err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("read the port of the last run: %s names no cluster", f.adminConf())
}

// rotateLogs keeps the logs of the last run as *.log.old.
func (f folder) rotateLogs() error {
	for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
		err := os.Rename(f.logOf(name), f.logOf(name)+".old")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("rotate log of %s: %w", name, err)
		}
	}
	return nil
}

func (f folder) writeAuditPolicy() error {
	return pki.WriteFile(f.auditPolicy(), []byte(auditPolicy))
}

// tailOf returns the last lines of file for an error text. It reads a bounded part of it.
func tailOf(file string) string {
	const maxBytes, maxLines = 4096, 8
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, maxBytes)
	n, err := f.ReadAt(buf, max(0, info.Size()-maxBytes))
	if n == 0 && err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	return strings.Join(lines[max(0, len(lines)-maxLines):], "\n")
}
